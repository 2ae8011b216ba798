"""Copies between arrays of any strides, by kernels/shape.cu.

A view says by its strides which elements it picks from memory; `packed` picks them. So a primitive
that only moves elements is a view that NumPy or CuPy makes, and one launch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gpukit.backends.cuda.runtime.common import BLOCK, address, divide_up, empty_like, index_type
from gpukit.device import device_of, to_host
from gpukit.launch.kernel import Kernel
from gpukit.primitives.accumulate import Array

AXES = 6  # that `move` takes, after merging; `turn` takes as many
FEW_AXES = 3
TILE = 32
WORTH_TURNING = 16  # elements along both axes, from which on tiles pay
UNITS = {size: np.dtype(f"uint{8 * size}") for size in (1, 2, 4, 8)}  # by bytes of an element

_move = Kernel("shape.cu", "move")
_turn = Kernel("shape.cu", "turn")
COPY_KERNELS = (_move, _turn)


class Axis(NamedTuple):
    """One axis of two arrays, as a copy's source and target: size, strides in elements."""

    size: int
    x: int
    y: int


def movable(*arrays: Array) -> bool:
    """Whether kernels can move elements of these arrays: numbers of up to 8 bytes, of one dtype."""
    dtypes = {a.dtype for a in arrays}
    dtype = next(iter(dtypes))
    return len(dtypes) == 1 and dtype.kind in "fiub" and dtype.itemsize in UNITS


def packed(view: Array) -> Array:
    """`view` itself where its elements lie one after another, else a copy where they do."""
    if view.flags.c_contiguous:
        return view
    y = empty_like(view)
    copy(view, y)
    return y


def copy(x: Array, y: Array) -> None:
    """y[...] = x: the same shape and dtype, on one device, of any strides."""
    if not x.size:
        return
    itemsize = x.dtype.itemsize
    if any(stride % itemsize for stride in (*x.strides, *y.strides)):
        y[...] = x  # fields of a structure
        return
    axes = merged(x, y)
    if len(axes) > AXES:
        for i in range(x.shape[0]):
            copy(x[i], y[i])
        return
    x_memory, x_from = memory_of(x)
    y_memory, y_from = memory_of(y)
    turned = _turned(axes)
    if turned is not None:
        _launch_turn(x_memory, y_memory, x_from, y_from, axes, turned)
    else:
        _launch_move(x_memory, y_memory, x_from, y_from, axes)


def repeated(x: Array, shape: Sequence[int]) -> Array:
    """One number, over all of an array of `shape`: the gradient of a mean in every step."""
    y = empty_like(x, shape)
    if y.size:
        _launch_move(x.reshape(-1), y.reshape(-1), 0, 0, [Axis(y.size, 0, 1)])
    return y


def memory_of(view: Array) -> tuple[Array, int]:
    """The memory that a view lies in, flat, and where in it the view's first element is."""
    itemsize = view.dtype.itemsize
    steps = [(n - 1) * (stride // itemsize) for n, stride in zip(view.shape, view.strides)]
    before = -sum(step for step in steps if step < 0)
    extent = 1 + sum(abs(step) for step in steps)
    if before:
        view = view[tuple(slice(None, None, -1 if step < 0 else 1) for step in steps)]
    return _strided(view, extent), before


def _strided(view: Array, extent: int) -> Array:
    """`extent` elements from the first of `view` on, one after another."""
    device = device_of(view)
    if device.in_host_memory:
        as_strided = np.lib.stride_tricks.as_strided
        return device.wrap(as_strided(to_host(view), (extent,), (view.dtype.itemsize,)))
    from cupy.lib import stride_tricks

    return stride_tricks.as_strided(view, (extent,), (view.dtype.itemsize,))


def merged(x: Array, y: Array) -> list[Axis]:
    """The axes of two arrays of one shape, without those of one element.

    Neighbours that run on in both, or along which one repeats (its strides are 0), are one axis.
    """
    itemsize = x.dtype.itemsize
    axes: list[Axis] = []
    for size, x_stride, y_stride in zip(x.shape, x.strides, y.strides):
        axis = Axis(size, x_stride // itemsize, y_stride // itemsize)
        if size == 1:
            continue
        if axes and axes[-1].x == size * axis.x and axes[-1].y == size * axis.y:
            axis = axis._replace(size=axes.pop().size * size)
        axes.append(axis)
    return axes or [Axis(1, 1, 1)]


def _turned(axes: list[Axis]) -> int | None:
    """The number of the axis that is the last of x, where tiles pay; the last one is y's."""
    last = axes[-1]
    if last.y != 1 or abs(last.x) <= 1 or last.size < WORTH_TURNING:
        return None
    for number, axis in enumerate(axes[:-1]):
        if axis.x == 1 and axis.size >= WORTH_TURNING:
            return number
    return None


def _unit(x: Array, y: Array, x_from: int, y_from: int, axes: list[Axis]) -> int:
    """Elements that can move as one: they are neighbours on both sides, and aligned."""
    size, last = x.dtype.itemsize, axes[-1]
    if (last.x, last.y) != (1, 1):
        return 1
    numbers = [x_from, y_from, last.size, x.size, y.size, *(n for a in axes[:-1] for n in a[1:])]
    for together in (8 // size, 4 // size, 2 // size):
        fits = not any(n % together for n in numbers) if together > 1 else False
        if fits and not any(address(a) % (together * size) for a in (x, y)):
            return together
    return 1


def _most(x: Array, y: Array, axes: list[Axis]) -> int:
    """The largest number that a kernel counts to."""
    return max(x.size, y.size, math.prod(axis.size for axis in axes))


def _launch_move(x: Array, y: Array, x_from: int, y_from: int, axes: list[Axis]) -> None:
    index = index_type(_most(x, y, axes))
    together = _unit(x, y, x_from, y_from, axes)
    if together > 1:
        axes = [Axis(a.size, a.x // together, a.y // together) for a in axes[:-1]] + [
            Axis(axes[-1].size // together, 1, 1)
        ]
        x_from, y_from = x_from // together, y_from // together
    unit = UNITS[x.dtype.itemsize * together]
    count = math.prod(axis.size for axis in axes)
    whole = [Axis(1, 0, 0)] * (AXES - len(axes)) + axes
    _move.launch(
        divide_up(count, BLOCK), BLOCK, x.view(unit), y.view(unit), count, x_from, y_from,
        *(a.size for a in whole[1:]), *(a.x for a in whole), *(a.y for a in whole),
        M=unit, I=index, AXES=FEW_AXES if len(axes) <= FEW_AXES else AXES,
    )  # fmt: skip


def _launch_turn(
    x: Array, y: Array, x_from: int, y_from: int, axes: list[Axis], number: int
) -> None:
    unit = UNITS[x.dtype.itemsize]
    a, b = axes[number], axes[-1]
    others = axes[:number] + axes[number + 1 : -1]
    whole = [Axis(1, 0, 0)] * (AXES - 2 - len(others)) + others
    blocks = divide_up(a.size, TILE) * divide_up(b.size, TILE)
    _turn.launch(
        blocks * math.prod(axis.size for axis in others), (TILE, 8),
        x.view(unit), y.view(unit), x_from, y_from, a.size, b.size, a.y, b.x,
        *(o.size for o in whole[1:]), *(o.x for o in whole), *(o.y for o in whole),
        M=unit, I=index_type(_most(x, y, axes)),
    )  # fmt: skip
