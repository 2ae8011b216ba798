"""Sums, means, maxima over axes, a check of all numbers. Sums accumulate as accumulate.py says.

`axis` is an int, a tuple of ints or None (all axes). The result is an array, perhaps of shape ().
"""

from __future__ import annotations

import numpy as np

from gpukit.dispatch.primitive import primitive
from gpukit.primitives.accumulate import Array, axes_of, long_mean, long_sum, remaining_shape

Axis = int | tuple[int, ...] | None


@primitive
def reduce_sum(x: Array, *, axis: Axis, keepdims: bool) -> Array:
    """Σ x over `axis`, in the dtype of x; 0 for no elements."""
    return long_sum(x, axis, keepdims)


@primitive
def reduce_mean(x: Array, *, axis: Axis, keepdims: bool) -> Array:
    """Mean of x over `axis`, in the dtype of x; 0 for no elements."""
    return long_mean(x, axis, keepdims)


@primitive
def reduce_max(x: Array, *, axis: Axis, keepdims: bool) -> Array:
    """Maximum of x over `axis`; NaN if any is NaN. No elements: ValueError, as in NumPy."""
    axes = axes_of(x, axis)
    kept = np.max(x, axis=axes, keepdims=True)
    return kept if keepdims else np.reshape(kept, remaining_shape(x.shape, axes))


@primitive
def argmax(x: Array, *, axis: int) -> Array:
    """int64 index of the maximum along `axis`: the first of several; the first NaN wins."""
    return np.argmax(x, axis=axis)


@primitive
def all_finite(x: Array) -> Array:
    """bool of shape (): whether no element of x (any shape) is NaN or infinite; True for none.

    The flag stays on the device of x; reading it waits until what made x is done.
    """
    return np.all(np.isfinite(x))
