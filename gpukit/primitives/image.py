"""Images as they are stored, made into what a network takes, on the device where they lie."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpukit.dispatch.primitive import primitive
from gpukit.primitives.accumulate import Array


@primitive
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
