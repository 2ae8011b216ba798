"""Images as they are stored, made into what a network takes, on the device where they lie."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpukit.dispatch.declaration import Declaration
from gpukit.dispatch.dice import Case, Dice
from gpukit.dispatch.primitive import primitive
from gpukit.primitives.accumulate import Array
from gpukit.primitives.calls import MAP, between, call, integers


def _case(dice: Dice) -> Case:
    n, h, w, c = (
        dice.one(0, 1, 2, 5),
        dice.between(1, 9),
        dice.between(1, 9),
        dice.one(1, 3, 3, 3, 4, 7),
    )
    images = dice.spread(dice.integers(0, 256, (n, h, w, c), np.uint8))
    shift = dice.array(n, c) if dice.chance(0.5) else None
    mean, scale = dice.array(c), dice.array(c)
    return Case([images, mean, scale, shift], {"dtype": dice.dtype}, exact=True)


@primitive(
    Declaration(
        _case,
        MAP,
        lambda n, h, w, c: call(  # as of photographs
            [
                integers(256, n, h, w, c, dtype=np.uint8),
                between(100, 140)(c),
                between(1 / 80, 1 / 50)(c),
                between(-20, 20)(n, c),
            ],
            (n, h, w, c),
            settings={"dtype": "float32"},
        ),
        usual=(32, 227, 227, 3),
        layers="images",
    )
)
def normalise_images(
    x: Array, mean: Array, scale: Array, shift: Array | None, *, dtype: Any
) -> Array:
    """y[n,h,w,c] = (x[n,h,w,c] + shift[n,c] - mean[c])·scale[c], in `dtype`, float32 or float64.

    x (N,H,W,C) uint8; mean and scale (C,), shift (N,C) or None (none), floats, converted to `dtype`
    first -> y (N,H,W,C). A shift of each image is how the colours of the training set are jittered
    (Krizhevsky et al., 2012, 4.1); bytes cross to the device, not floats.
    """
    offset = mean.astype(dtype, copy=False)
    if shift is None:
        moved = x.astype(dtype) - offset
    else:
        n, c = shift.shape
        moved = x.astype(dtype) + np.reshape(shift.astype(dtype, copy=False), (n, 1, 1, c)) - offset
    return moved * scale.astype(dtype, copy=False)
