"""Launchers of kernels/reduction.cu: any axes, as passes over the middle one of three; a flag."""

from __future__ import annotations

import math
from itertools import groupby

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cuda.runtime.common import (
    BLOCK,
    MARGIN,
    MOST_INT,
    contiguous,
    divide_up,
    empty_like,
    is_float,
)
from gpukit.device import device_of
from gpukit.launch.kernel import Kernel
from gpukit.primitives.accumulate import Array, axes_of, remaining_shape
from gpukit.primitives.reduction import Axis

EACH = 64  # values that a thread adds one after the other
WIDEST = 32  # columns side by side in a block
FINITE_PACKS = 4  # of 16 bytes that a thread looks at, before blocks go round again
FINITE_BLOCKS = 1024  # at most

_reduce = Kernel("reduction.cu", "reduce")
_argmax = Kernel("reduction.cu", "argmax")
_finite_parts = Kernel("reduction.cu", "finite_parts")
_all_set = Kernel("reduction.cu", "all_set")
REDUCE_KERNELS = (_reduce,)


def _power_of_two(n: int, most: int) -> int:
    """The smallest power of two that is at least n, or `most`."""
    return min(1 << max(n - 1, 0).bit_length(), most)


def _blocks(outer: int, inner: int, parts: int, deep: int) -> tuple[int, tuple[int, int, int]]:
    """Grid and block of a pass to (outer, parts, inner) with `deep` threads along the axis."""
    wide = _power_of_two(inner, WIDEST)
    many = max(1, min(BLOCK // (wide * deep), _power_of_two(outer, 64)))
    return divide_up(outer, many) * parts * divide_up(inner, wide), (wide, deep, many)


def _cut(length: int, inner: int) -> tuple[int, int]:
    """(parts of an axis, threads along each); parts are of equal length, and none is empty."""
    deep = _power_of_two(length, BLOCK // _power_of_two(inner, WIDEST))
    return divide_up(length, divide_up(length, divide_up(length, EACH * deep))), deep


def _pass(
    x: Array, sizes: tuple[int, int, int], parts: int, deep: int, op: str, by: float
) -> Array:
    """x (outer, length, inner) -> (outer, parts, inner)."""
    outer, length, inner = sizes
    y = empty_like(x, (outer, parts, inner))
    grid, block = _blocks(outer, inner, parts, deep)
    _reduce.launch(
        grid, block, x, y, outer, length, inner, divide_up(length, parts), parts,
        float(by), T=x.dtype, Op=op,
    )  # fmt: skip
    return y


def reduce_middle(
    x: Array, sizes: tuple[int, int, int], shape: tuple[int, ...], op: str, divisor: float = 1
) -> Array:
    """Contiguous x, seen as (outer, length, inner), reduced by `op` over length; result of `shape`.

    `op` is "Sum" or "Max"; every value is divided by `divisor` at the end. No values sum to 0.
    """
    outer, length, inner = sizes
    if outer * inner == 0 or length == 0:
        return device_of(x).zeros(shape, x.dtype)
    while True:
        parts, deep = _cut(length, inner)
        last = parts == 1
        x = _pass(x, (outer, length, inner), parts, deep, op, divisor if last else 1)
        if last:
            return x.reshape(shape)
        length = parts


def _reduced(x: Array, axis: Axis, keepdims: bool, op: str, mean: bool = False) -> Array:
    axes = axes_of(x, axis)
    kept = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
    shape = kept if keepdims else remaining_shape(x.shape, axes)
    count = max(math.prod(x.shape[a] for a in axes), 1)
    # Neighbouring axes of one kind are one axis; the last reduced group goes first.
    groups = [
        (is_reduced, math.prod(x.shape[a] for a in members))
        for is_reduced, members in groupby(range(x.ndim), lambda a: a in axes)
    ]
    reduced = [i for i, (is_reduced, _) in enumerate(groups) if is_reduced]
    if not reduced:
        return x.copy()
    x = contiguous(x)
    lengths = [n for _, n in groups]
    for i in reversed(reduced):
        sizes = (math.prod(lengths[:i]), lengths[i], math.prod(lengths[i + 1 :]))
        lengths[i] = 1
        divisor = count if mean and i == reduced[0] else 1
        x = reduce_middle(x, sizes, tuple(lengths), op, divisor)
    return x.reshape(shape)


def _fits(x: Array, *, axis: Axis, keepdims: bool) -> bool:
    if not is_float(x):
        return False
    # What the first pass leaves is counted by ints: all but the last run of reduced axes.
    axes, most = axes_of(x, axis), MOST_INT - MARGIN
    last = max(axes, default=0)
    while last in axes:
        last -= 1
    left = math.prod(n for a, n in enumerate(x.shape) if a <= last or a not in axes)
    return min(x.size, left) <= most


def _max_fits(x: Array, *, axis: Axis, keepdims: bool) -> bool:
    return x.size > 0 and _fits(x, axis=axis, keepdims=keepdims)


@p.reduce_sum.on("cuda", name="cuda", supports=_fits, kernels=(_reduce,))
def _(x: Array, *, axis: Axis, keepdims: bool) -> Array:
    return _reduced(x, axis, keepdims, "Sum")


@p.reduce_mean.on("cuda", name="cuda", supports=_fits, kernels=(_reduce,))
def _(x: Array, *, axis: Axis, keepdims: bool) -> Array:
    return _reduced(x, axis, keepdims, "Sum", mean=True)


@p.reduce_max.on("cuda", name="cuda", supports=_max_fits, kernels=(_reduce,))
def _(x: Array, *, axis: Axis, keepdims: bool) -> Array:
    return _reduced(x, axis, keepdims, "Max")


def _argmax_fits(x: Array, *, axis: int) -> bool:
    if not is_float(x) or x.ndim == 0 or x.shape[axis] == 0:
        return False
    return x.size // x.shape[axis] <= MOST_INT - MARGIN


@p.argmax.on("cuda", name="cuda", supports=_argmax_fits, kernels=(_argmax,))
def _(x: Array, *, axis: int) -> Array:
    at = axis % x.ndim
    shape = (*x.shape[:at], *x.shape[at + 1 :])
    outer, length, inner = math.prod(x.shape[:at]), x.shape[at], math.prod(x.shape[at + 1 :])
    if not x.size:
        return empty_like(x, shape, np.int64)
    x, places = contiguous(x), None
    while places is None or length > 1:
        parts, deep = _cut(length, inner)
        best = empty_like(x, (outer, parts, inner))
        place = empty_like(x, best.shape, np.int64)
        grid, block = _blocks(outer, inner, parts, deep)
        _argmax.launch(
            grid, block, x, places, best, place, outer, length, inner, divide_up(length, parts),
            parts, T=x.dtype,
        )  # fmt: skip
        x, places, length = best, place, parts
    return places.reshape(shape)


@p.all_finite.on("cuda", name="cuda", supports=is_float, kernels=(_finite_parts, _all_set))
def _(x: Array) -> Array:
    # The flag stays on the device.
    x = contiguous(x)
    each = BLOCK * FINITE_PACKS * (16 // x.dtype.itemsize)
    blocks = max(1, min(divide_up(x.size, each), FINITE_BLOCKS))
    flags = empty_like(x, (blocks,), np.bool_)
    flag = empty_like(x, (), np.bool_)
    _finite_parts.launch(blocks, BLOCK, x, flags, x.size, T=x.dtype)
    _all_set.launch(1, BLOCK, flags, flag, blocks)
    return flag
