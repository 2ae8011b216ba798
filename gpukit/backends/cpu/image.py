"""Stored images made into floats: one multiplication and addition a byte, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cpu.runtime.common import FLOAT32, FLOAT64, Array, flat
from gpukit.backends.cpu.runtime.jit import at, jit
from gpukit.backends.cpu.runtime.memory import empty
from gpukit.backends.cpu.runtime.threads import for_ranges, tasks_of

# Values that share one pattern of offsets and factors: long enough for long loops.
_PATTERN = 512


@jit
def _normalise(x, mean, scale, shift, y, size, first, last):  # type: ignore[no-untyped-def]
    """Images first … last of `size` values each; shift (N·C) may be empty."""
    channels = len(mean)
    period = max(_PATTERN // channels, 1) * channels
    moved, offset = np.zeros(period, y.dtype), np.zeros(period, y.dtype)
    factor = np.zeros(period, y.dtype)
    for i in range(period):
        offset[at(i)] = mean[at(i % channels)]
        factor[at(i)] = scale[at(i % channels)]
    for image in range(first, last):
        if len(shift) > 0:
            for i in range(period):
                moved[at(i)] = shift[at(image * channels + i % channels)]
        for base in range(image * size, (image + 1) * size, period):
            for i in range(min(period, (image + 1) * size - base)):
                v = y.dtype.type(x[at(base + i)])
                y[at(base + i)] = (v + moved[at(i)] - offset[at(i)]) * factor[at(i)]


def _supports(x: Array, *_: Any, dtype: Any) -> bool:
    return x.dtype == np.uint8 and x.size > 0 and np.dtype(dtype) in (FLOAT32, FLOAT64)


@p.normalise_images.on("cpu", name="numba", supports=_supports)
def _(x: Array, mean: Array, scale: Array, shift: Array | None, *, dtype: Any) -> Array:
    dtype = np.dtype(dtype)
    y = empty(x.shape, dtype)
    moved = np.empty(0, dtype) if shift is None else flat(shift.astype(dtype, copy=False))
    offset, factor = (flat(v.astype(dtype, copy=False)) for v in (mean, scale))
    images, out, size = flat(x), y.reshape(-1), x.size // len(x)
    for_ranges(tasks_of(len(x), x.size), _normalise, images, offset, factor, moved, out, size)
    return y
