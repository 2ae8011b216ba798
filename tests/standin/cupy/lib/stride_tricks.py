"""cupy.lib.stride_tricks: views of the same memory, which must lie in it."""

from __future__ import annotations

from typing import Any

import numpy as np

from cupy import _memory
from cupy._array import ndarray


def as_strided(x: ndarray, shape: Any = None, strides: Any = None) -> ndarray:
    shape = x.shape if shape is None else tuple(shape)
    strides = x.strides if strides is None else tuple(strides)
    if x.size and 0 not in shape:
        steps = [(n - 1) * s for n, s in zip(shape, strides, strict=True)]
        first = x.data.ptr + sum(s for s in steps if s < 0)
        extent = sum(abs(s) for s in steps) + x.itemsize
        if _memory.find(first, extent) is not x._memory:
            raise ValueError(f"as_strided {shape} {strides} leaves the array's memory")
    return ndarray(np.lib.stride_tricks.as_strided(x._host, shape, strides), x._memory, x)
