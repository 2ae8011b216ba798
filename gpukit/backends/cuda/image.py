"""Launcher of kernels/image.cu: stored images, normalised on the device."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cuda.runtime.common import BLOCK, FLOATS, contiguous, empty_like, pack_grid
from gpukit.launch.kernel import Kernel
from gpukit.primitives.accumulate import Array

MOST = 2**31 - 2**16  # elements: indices are ints

_normalise = Kernel("image.cu", "normalise_images")


def _fits(x: Array, mean: Array, scale: Array, shift: Array | None, *, dtype: Any) -> bool:
    channels = (x.shape[-1],)
    return (
        x.dtype == np.uint8
        and x.ndim == 4
        and x.size <= MOST
        and np.dtype(dtype) in FLOATS
        and mean.shape == scale.shape == channels
        and (shift is None or shift.shape == (x.shape[0], *channels))
    )


@p.normalise_images.on("cuda", name="cuda", supports=_fits, kernels=(_normalise,))
def _(x: Array, mean: Array, scale: Array, shift: Array | None, *, dtype: Any) -> Array:
    x, y = contiguous(x), empty_like(x, dtype=np.dtype(dtype))
    if x.size:
        few = (
            None if a is None else contiguous(a.astype(y.dtype, copy=False))
            for a in (mean, scale, shift)
        )
        _normalise.launch(
            pack_grid(y), BLOCK, x, *few, y, x.size, math.prod(x.shape[1:]), x.shape[3], T=y.dtype
        )
    return y
