"""Launchers of kernels/shape.cu: primitives that move elements without computing.

Results that need no copy are views: nobody writes into the result of a primitive.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cuda.runtime.common import BLOCK, contiguous, divide_up, empty_like, index_type
from gpukit.backends.cuda.runtime.strides import (
    COPY_KERNELS,
    UNITS,
    copy,
    movable,
    packed,
    repeated,
)
from gpukit.launch.kernel import Kernel
from gpukit.primitives.accumulate import Array

Widths = tuple[tuple[int, int], ...]
Widened = tuple[int, int, int]  # an axis: its size, and elements before and after it

PADDED_AXES = 3  # that the kernel pads at once, after merging; it takes rows of them

_pad = Kernel("shape.cu", "pad")


@p.reshape.on("cuda", name="view", supports=lambda x, *, shape: movable(x), kernels=COPY_KERNELS)
def _(x: Array, *, shape: tuple[int, ...]) -> Array:
    return packed(x).reshape(shape)


@p.transpose.on("cuda", name="cuda", supports=lambda x, *, axes: movable(x), kernels=COPY_KERNELS)
def _(x: Array, *, axes: tuple[int, ...]) -> Array:
    return packed(np.transpose(x, axes))


@p.broadcast_to.on(
    "cuda", name="cuda", supports=lambda x, *, shape: movable(x), kernels=COPY_KERNELS
)
def _(x: Array, *, shape: tuple[int, ...]) -> Array:
    if x.size == 1 and x.ndim <= len(shape):
        return repeated(x, shape)
    return packed(np.broadcast_to(x, shape))


@p.split.on(
    "cuda", name="cuda", supports=lambda x, *, sections, axis: movable(x), kernels=COPY_KERNELS
)
def _(x: Array, *, sections: tuple[int, ...], axis: int) -> tuple[Array, ...]:
    ends = list(accumulate(sections))
    return tuple(packed(part) for part in np.split(x, ends[:-1], axis=axis))


def _joins(arrays: Sequence[Array], *, axis: int) -> bool:
    at = axis % arrays[0].ndim
    others = {(*a.shape[:at], -1, *a.shape[at + 1 :]) for a in arrays}
    return movable(*arrays) and len(others) == 1


@p.concat.on("cuda", name="cuda", supports=_joins, kernels=COPY_KERNELS)
def _(arrays: Sequence[Array], *, axis: int) -> Array:
    first, at = arrays[0], axis % arrays[0].ndim
    length = sum(a.shape[at] for a in arrays)
    y = empty_like(first, (*first.shape[:at], length, *first.shape[at + 1 :]))
    start = 0
    for a in arrays:
        end = start + a.shape[at]
        copy(a, y[(slice(None),) * at + (slice(start, end),)])
        start = end
    return y


def _padded_axes(shape: tuple[int, ...], widths: Widths) -> list[Widened]:
    """Every axis with its widths; neighbours are one where only the first is padded.

    Widths then count elements of all merged axes: (2,3) with one row before is (6,) with 3.
    """
    merged: list[Widened] = []
    for size, (before, after) in zip(shape, widths):
        if merged and not before and not after:
            n, b, a = merged.pop()
            merged.append((n * size, b * size, a * size))
        else:
            merged.append((size, before, after))
    return merged or [(1, 0, 0)]


@p.pad.on(
    "cuda",
    name="cuda",
    supports=lambda x, *, widths, value: movable(x),
    kernels=(_pad, *COPY_KERNELS),
)
def _(x: Array, *, widths: Widths, value: float) -> Array:
    shape = tuple(n + sum(pair) for n, pair in zip(x.shape, widths))
    if not math.prod(shape):
        return empty_like(x, shape)
    if shape == x.shape:
        return x.copy()
    dtype = x.dtype
    unit = UNITS[x.dtype.itemsize]
    number = int(np.asarray(value).astype(x.dtype).view(unit))
    axes = _padded_axes(x.shape, widths)
    x = contiguous(x).reshape(-1).view(unit)
    while any(before or after for _, before, after in axes):
        # The last axes are padded; those before them are rows to this launch.
        now, axes = axes[-PADDED_AXES:], axes[:-PADDED_AXES]
        x = _launch_pad(x, math.prod(size for size, _, _ in axes), now, number)
        inner = math.prod(map(sum, now))
        if axes:
            size, before, after = axes[-1]
            axes[-1] = (size * inner, before * inner, after * inner)
        else:
            axes = [(inner, 0, 0)]
    return x.view(dtype).reshape(shape)


def _launch_pad(x: Array, rows: int, axes: list[Widened], value: int) -> Array:
    """Flat x, seen as `rows` blocks of `axes`, with these padded; flat."""
    axes = [(rows, 0, 0)] + [(1, 0, 0)] * (PADDED_AXES - len(axes)) + axes
    sizes = [sum(axis) for axis in axes]
    y = empty_like(x, (math.prod(sizes),))
    _pad.launch(
        divide_up(y.size, BLOCK), BLOCK, x, y, value, y.size, *sizes[1:],
        *(size for size, _, _ in axes), *(before for _, before, _ in axes),
        M=x.dtype, I=index_type(max(x.size, y.size)),
    )  # fmt: skip
    return y
