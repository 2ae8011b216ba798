"""Indexing: slices are views that kernels/shape.cu copies, integers pick by kernels/shape.cu.

Keys are read on the host: an integer array on a card is copied there, which waits for its stream.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cuda.runtime.common import (
    BLOCK,
    contiguous,
    divide_up,
    empty_like,
    index_type,
    is_float,
)
from gpukit.backends.cuda.runtime.strides import COPY_KERNELS, UNITS, copy, movable, packed
from gpukit.device import device_of, to_host
from gpukit.launch.kernel import Kernel
from gpukit.primitives.accumulate import Array

INDEX: dict[str, np.dtype[Any]] = {"int": np.dtype(np.int32), "long long": np.dtype(np.int64)}

_gather = Kernel("shape.cu", "gather")
_add_picked = Kernel("shape.cu", "add_picked")


class Key(NamedTuple):
    """A key in two steps: a view by `slices`, then integers along some axes of that view."""

    slices: tuple[Any, ...]
    picks: tuple[tuple[int, np.ndarray], ...]  # axis of the view, and what is taken along it


class Layout(NamedTuple):
    """How picks lie in the view: in the order `axes`, its axes are (outer, rows, inner).

    `table` has the row of each pick, `shape` is that of the result.
    """

    axes: tuple[int, ...]
    outer: int
    rows: int
    inner: int
    table: np.ndarray
    shape: tuple[int, ...]


def _is_array(item: Any) -> bool:
    return isinstance(item, list) or (hasattr(item, "dtype") and item.ndim > 0)


def _known(key: Any) -> bool:
    """Whether these launchers take the key: anything but nested tuples and single booleans."""
    items = key if isinstance(key, tuple) else (key,)
    for item in items:
        is_bool = isinstance(item, (bool, np.bool_))
        is_number = isinstance(item, (int, np.integer)) and not is_bool
        whole = _is_array(item) and np.asarray(to_host(item)).dtype.kind in "iub"
        if not (item is None or item is Ellipsis or isinstance(item, slice) or is_number or whole):
            return False
    return True


def parsed(key: Any, ndim: int) -> Key:
    """`key` for an array of `ndim` axes, in two steps."""
    items = list(key) if isinstance(key, tuple) else [key]
    arrays = [np.asarray(to_host(item)) if _is_array(item) else None for item in items]
    if all(a is None for a in arrays):
        missing = [] if any(item is Ellipsis for item in items) else [Ellipsis]
        return Key((*items, *missing), ())
    taken = sum(
        1 if a is None or a.dtype.kind != "b" else a.ndim
        for item, a in zip(items, arrays)
        if item is not None and item is not Ellipsis
    )
    slices: list[Any] = []
    picks: list[tuple[int, np.ndarray]] = []
    for item, array in zip(items, arrays):
        if item is Ellipsis:
            slices += [slice(None)] * (ndim - taken)
        elif item is None or isinstance(item, slice):
            slices.append(item)
        else:
            # Numbers beside arrays pick like arrays of one element; a mask picks where it is true.
            found = np.asarray(item) if array is None else array
            for one in np.nonzero(found) if found.dtype.kind == "b" else (found,):
                picks.append((len(slices), one.astype(np.int64)))
                slices.append(slice(None))
    return Key((*slices, Ellipsis), tuple(picks))


def laid_out(key: Key, shape: tuple[int, ...]) -> Layout:
    """Where the picks of `key` lie in a view of `shape`. Raises IndexError like NumPy."""
    picked = [axis for axis, _ in key.picks]
    sizes = [shape[axis] for axis in picked]
    for axis, size, (_, numbers) in zip(picked, sizes, key.picks):
        wrong = numbers[(numbers < -size) | (numbers >= size)]
        if wrong.size:
            raise IndexError(
                f"index {wrong.flat[0]} is out of bounds for axis {axis} with size {size}"
            )
    wrapped = [n + (n < 0) * size for size, (_, n) in zip(sizes, key.picks)]
    found = np.broadcast_arrays(*wrapped)
    table = np.zeros(found[0].shape, np.int64)
    for size, numbers in zip(sizes, found):
        table = table * size + numbers
    # As in NumPy: picks stay where they are if their axes are neighbours, else they come first.
    first = picked[0] if picked == list(range(picked[0], picked[0] + len(picked))) else 0
    rest = [axis for axis in range(len(shape)) if axis not in picked]
    before, after = rest[:first], rest[first:]
    outer, inner = [shape[a] for a in before], [shape[a] for a in after]
    return Layout(
        (*before, *picked, *after),
        math.prod(outer),
        math.prod(sizes),
        math.prod(inner),
        table.reshape(-1),
        (*outer, *table.shape, *inner),
    )


@p.index.on(
    "cuda",
    name="cuda",
    supports=lambda x, *, key: movable(x) and _known(key),
    kernels=(_gather, *COPY_KERNELS),
)
def _(x: Array, *, key: Any) -> Array:
    steps = parsed(key, x.ndim)
    view = x[steps.slices]
    if not steps.picks:
        return packed(view)
    where = laid_out(steps, view.shape)
    y = empty_like(x, where.shape)
    if not y.size:
        return y
    x = packed(np.transpose(view, where.axes))
    unit, index = UNITS[x.dtype.itemsize], index_type(max(x.size, y.size))
    _gather.launch(
        divide_up(y.size, BLOCK), BLOCK, x.view(unit), _placed(where.table, index, x), y.view(unit),
        y.size, where.rows, where.table.size, where.inner, M=unit, I=index,
    )  # fmt: skip
    return y


@p.index_grad.on(
    "cuda",
    name="cuda",
    supports=lambda gy, *, key, input_shape: is_float(gy) and _known(key),
    kernels=(_add_picked, *COPY_KERNELS),
)
def _(gy: Array, *, key: Any, input_shape: tuple[int, ...]) -> Array:
    gx = device_of(gy).zeros(input_shape, gy.dtype)
    steps = parsed(key, len(input_shape))
    view = gx[steps.slices]
    if not steps.picks:
        copy(gy, view)
        return gx
    where = laid_out(steps, view.shape)
    if not gy.size:
        return gx
    turned = np.transpose(view, where.axes)
    rows = turned if turned.flags.c_contiguous else device_of(gy).zeros(turned.shape, gy.dtype)
    _add(contiguous(gy), rows, where)
    if rows is not turned:
        copy(rows, turned)
    return gx


def _add(gy: Array, gx: Array, where: Layout) -> None:
    order = np.argsort(where.table, kind="stable")
    occurring, starts = np.unique(where.table[order], return_index=True)
    starts = np.append(starts, where.table.size)
    n = where.outer * occurring.size * where.inner
    index = index_type(max(gx.size, gy.size))
    tables = [_placed(numbers, index, gy) for numbers in (occurring, starts, order)]
    _add_picked.launch(
        divide_up(n, BLOCK), BLOCK, gy, *tables, gx, n,
        where.rows, occurring.size, where.table.size, where.inner,
        T=gy.dtype, I=index,
    )  # fmt: skip


def _placed(numbers: np.ndarray, index: str, beside: Array) -> Array:
    """Row numbers as a kernel's index type, on the device of `beside`."""
    return device_of(beside).asarray(numbers.astype(INDEX[index]))
