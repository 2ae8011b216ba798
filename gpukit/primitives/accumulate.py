"""How the references add up: every long sum goes through here, its accuracy is said once.

`np.sum` is pairwise only along a contiguous last axis; over a strided leading axis (a bias
gradient, batch statistics) it adds row after row, and float32 loses a digit for each factor of ten
in length. The references therefore accumulate float32 and half types in float64 and round once at
the end: more accurate than pairwise or blocked float32, which is what faster implementations are
held to. float64 adds in NumPy's own order.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = Any
"""An array of any device: NumPy's, CuPy's, or a DeviceArray."""


def wide(x: Array) -> Array:
    """`x` in the type that products are added in: half types in float32, others as they are."""
    return x.astype(np.result_type(x.dtype, np.float32), copy=False)


def _accumulator(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """float64 for narrower floats; None (NumPy's choice) for float64, integers and booleans."""
    narrow = dtype.kind == "f" and dtype.itemsize < 8
    return np.dtype(np.float64) if narrow else None


def axes_of(x: Array, axis: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """`axis` as a tuple of non-negative axes; None means all of them."""
    if axis is None:
        return tuple(range(x.ndim))
    axes = (axis,) if isinstance(axis, int) else axis
    return tuple(a % x.ndim for a in axes)


def long_sum(x: Array, axis: int | tuple[int, ...] | None, keepdims: bool = False) -> Array:
    """Sum over `axis`, in the dtype of `x` (integers: NumPy's int64), accumulated wide.

    Always an array, of shape () when every axis is summed.
    """
    axes = axes_of(x, axis)
    kept = np.sum(x, axis=axes, keepdims=True, dtype=_accumulator(x.dtype))
    if x.dtype.kind == "f":
        kept = kept.astype(x.dtype, copy=False)
    return kept if keepdims else np.reshape(kept, remaining_shape(x.shape, axes))


def long_mean(x: Array, axis: int | tuple[int, ...] | None, keepdims: bool = False) -> Array:
    """Mean over `axis`, in the dtype of `x`; the mean of nothing is 0: a batch may be empty."""
    axes = axes_of(x, axis)
    count = max(math.prod(x.shape[a] for a in axes), 1)
    kept = np.sum(x, axis=axes, keepdims=True, dtype=_accumulator(x.dtype)) / count
    if x.dtype.kind == "f":
        kept = kept.astype(x.dtype, copy=False)
    return kept if keepdims else np.reshape(kept, remaining_shape(x.shape, axes))


def remaining_shape(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` without `axes`."""
    return tuple(n for a, n in enumerate(shape) if a not in axes)
