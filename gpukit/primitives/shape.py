"""Moving elements without computing: reshape, transpose, join, cut, pad, index.

Results may be views of their arguments; nobody writes into them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from gpukit.dispatch.primitive import primitive
from gpukit.primitives.accumulate import Array


@primitive
def reshape(x: Array, *, shape: tuple[int, ...]) -> Array:
    """The elements of x, row-major, in `shape` (one -1 is worked out)."""
    return np.reshape(x, shape)


@primitive
def transpose(x: Array, *, axes: tuple[int, ...]) -> Array:
    """Axis i of the result is axis axes[i] of x."""
    return np.transpose(x, axes)


@primitive
def concat(arrays: Sequence[Array], *, axis: int) -> Array:
    """Arrays of one dtype, equal in all axes but `axis`, joined along it."""
    return np.concatenate(arrays, axis=axis)


@primitive
def split(x: Array, *, sections: tuple[int, ...], axis: int) -> tuple[Array, ...]:
    """x cut along `axis` into pieces of the sizes `sections`, which sum to its length."""
    ends = list(accumulate(sections))
    return tuple(np.split(x, ends[:-1], axis=axis))


@primitive
def pad(x: Array, *, widths: tuple[tuple[int, int], ...], value: float) -> Array:
    """x with (before, after) elements of `value` added on each axis."""
    return np.pad(x, widths, constant_values=value)


@primitive
def index(x: Array, *, key: Any) -> Array:
    """x[key], NumPy's basic and advanced indexing."""
    return x[key]


@primitive
def index_grad(gy: Array, *, key: Any, input_shape: tuple[int, ...]) -> Array:
    """gy added at `key` into zeros of `input_shape`; an element picked twice gets both."""
    size = math.prod(input_shape)
    numbers = np.cumsum(np.ones_like(gy, shape=(size,), dtype=np.int64)) - 1
    picked = np.reshape(numbers, input_shape)[key]
    # Flat positions and not the key itself: CuPy's add.at takes arrays, but no slices or tuples.
    gx = np.zeros_like(gy, shape=(size,))
    np.add.at(gx, np.reshape(picked, -1), np.reshape(gy, -1))
    return np.reshape(gx, input_shape)


@primitive
def broadcast_to(x: Array, *, shape: tuple[int, ...]) -> Array:
    """x repeated to `shape` by NumPy's broadcasting rules; a read-only view."""
    return np.broadcast_to(x, shape)
