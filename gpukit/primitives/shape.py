"""Moving elements without computing: reshape, transpose, join, cut, pad, index.

Results may be views of their arguments; nobody writes into them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gpukit.dispatch.declaration import Declaration, Problem, Sizes
from gpukit.dispatch.dice import Case, Dice
from gpukit.dispatch.primitive import primitive
from gpukit.primitives.accumulate import Array
from gpukit.primitives.calls import MAP, ROWS, USUAL_MAP, call, normal

_KINDS = (np.uint8, np.int16, np.int32, np.int64, np.float64, np.bool_)


def _moved(dice: Dice, *shape: int) -> np.ndarray:
    """Numbers to be moved: mostly floats, now and then elements of another size, or a view."""
    made = dice.holes(dice.array(*shape))
    if dice.chance(0.25):
        made = dice.integers(0, 2, shape, dice.one(*_KINDS))
    if made.ndim and dice.chance(0.15):  # every other row, backwards
        made = np.repeat(made, 2, axis=0)[::-2]
    return made


def _shape(dice: Dice) -> tuple[int, ...]:
    """Of up to 7 axes, now and then two of them longer than a tile."""
    if dice.chance(0.25):
        sizes = [dice.one(1, 2, 3), dice.between(14, 70), dice.between(14, 70), dice.one(1, 2, 5)]
        return tuple(sizes[dice.between(0, 1) : dice.between(3, 4)])
    if dice.chance(0.1):
        return tuple(dice.one(1, 2, 2, 3) for _ in range(dice.between(5, 7)))
    return dice.shape()


def _move(
    draw: Callable[[Dice], Case],
    call_of: Callable[..., Problem],
    usual: Sizes = USUAL_MAP,
    unraced: str = "",
) -> Declaration:
    """Of a primitive that moves maps; a result may be a view."""

    def of(*shape: int) -> Problem:
        return replace(call_of(*shape), exact=True, moves=True)

    return Declaration(draw, MAP, of, usual, unraced=unraced)


def _reshape(dice: Dice) -> Case:
    x = _moved(dice, *_shape(dice))
    shape = dice.one(x.shape[::-1], (x.size,), (*x.shape, 1))
    if x.size and shape:
        at = dice.between(0, len(shape) - 1)
        shape = dice.one(shape, (*shape[:at], -1, *shape[at + 1 :]))
    return Case([x], {"shape": shape}, exact=True)


@primitive(
    _move(
        _reshape,
        lambda n, h, w, c: call(
            [normal(n, h, w, c)], (n, h * w * c), settings={"shape": (n, h * w * c)}
        ),
        unraced="its result is a view of its argument: nothing moves",
    )
)
def reshape(x: Array, *, shape: tuple[int, ...]) -> Array:
    """The elements of x, row-major, in `shape` (one -1 is worked out)."""
    return np.reshape(x, shape)


def _order(dice: Dice, count: int) -> tuple[int, ...]:
    order: list[int] = []
    while len(order) < count:
        order.append(dice.one(*(a for a in range(count) if a not in order)))
    return tuple(order)


def _transpose(dice: Dice) -> Case:
    x = _moved(dice, *_shape(dice))
    return Case([x], {"axes": _order(dice, x.ndim)}, exact=True)


@primitive(
    _move(
        _transpose,
        lambda n, h, w, c: call(
            [normal(n, h, w, c)], (n, c, h, w), settings={"axes": (0, 3, 1, 2)}
        ),
    )
)
def transpose(x: Array, *, axes: tuple[int, ...]) -> Array:
    """Axis i of the result is axis axes[i] of x."""
    return np.transpose(x, axes)


def _pieces(dice: Dice) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """A shape of one axis at least, one of its axes, and the sizes of pieces along it."""
    shape = _shape(dice) or (dice.between(0, 9),)
    axis = dice.between(0, len(shape) - 1)
    pieces: list[int] = []
    while sum(pieces) < shape[axis]:
        pieces.append(dice.between(0, shape[axis] - sum(pieces)))
    return shape, axis, tuple(pieces) or (0,)


def _concat(dice: Dice) -> Case:
    shape, axis, pieces = _pieces(dice)
    first = _moved(dice, *shape[:axis], pieces[0], *shape[axis + 1 :])
    arrays = [first] + [
        dice.array(*shape[:axis], n, *shape[axis + 1 :]).astype(first.dtype) for n in pieces[1:]
    ]
    axis -= len(shape) if dice.chance(0.3) else 0
    return Case([arrays], {"axis": axis}, exact=True)


@primitive(
    _move(
        _concat,
        lambda n, h, w, c: call(
            [normal(n, h, w, c), normal(n, h, w, c)],
            (n, h, w, 2 * c),
            settings={"axis": 3},
            listed=True,
        ),
    )
)
def concat(arrays: Sequence[Array], *, axis: int) -> Array:
    """Arrays of one dtype, equal in all axes but `axis`, joined along it."""
    return np.concatenate(arrays, axis=axis)


def _split(dice: Dice) -> Case:
    shape, axis, pieces = _pieces(dice)
    axis -= len(shape) if dice.chance(0.3) else 0
    return Case([_moved(dice, *shape)], {"sections": pieces, "axis": axis}, exact=True)


@primitive(
    _move(
        _split,
        lambda n, h, w, c: call(
            [normal(n, h, w, c)],
            (n, h, w, c),
            settings={"sections": (c // 2, c - c // 2), "axis": 3},
        ),
        usual=(8, 28, 28, 128),
    )
)
def split(x: Array, *, sections: tuple[int, ...], axis: int) -> tuple[Array, ...]:
    """x cut along `axis` into pieces of the sizes `sections`, which sum to its length."""
    ends = list(itertools.accumulate(sections))
    return tuple(np.split(x, ends[:-1], axis=axis))


def _pad(dice: Dice) -> Case:
    x = _moved(dice, *(_shape(dice) or (1,)))
    widths = tuple((dice.one(0, 0, 1, 2), dice.one(0, 0, 0, 3)) for _ in x.shape)
    value = dice.one(0, 1) if x.dtype.kind in "iub" else dice.one(0.0, -1.5, float("nan"))
    return Case([x], {"widths": widths, "value": value}, exact=True)


@primitive(
    _move(
        _pad,
        lambda n, h, w, c: call(
            [normal(n, h, w, c)],
            (n, h + 2, w + 2, c),
            settings={"widths": ((0, 0), (1, 1), (1, 1), (0, 0)), "value": 0.0},
        ),
    )
)
def pad(x: Array, *, widths: tuple[tuple[int, int], ...], value: float) -> Array:
    """x with (before, after) elements of `value` added on each axis."""
    return np.pad(x, widths, constant_values=value)


def _key(dice: Dice, shape: tuple[int, ...]) -> Any:
    """Numbers, slices, new axes, an ellipsis, lists of integers; in no order."""
    common = dice.one((), (1,), (3,), (2, 2), (40,))
    items: list[Any] = []
    for size in shape:
        if dice.chance(0.1):
            items.append(None)
        start, step = dice.between(-size - 1, size + 1), dice.one(1, 1, 2, 3, -1, -2)
        whole = slice(None) if dice.chance(0.5) else slice(start, None, step)
        numbers = dice.integers(-size, size, common, int).tolist() if size else 0
        picks = isinstance(numbers, list) and dice.chance(0.35)
        number = dice.between(-size, size - 1) if size and dice.chance(0.2) else whole
        items.append(numbers if picks else number)
    if dice.chance(0.3):
        at = dice.between(0, len(items))
        items[at : at + dice.between(0, 2)] = [Ellipsis]
    elif dice.chance(0.3):
        del items[dice.between(0, len(items)) :]
    return items[0] if len(items) == 1 else tuple(items)


def _index(dice: Dice) -> Case:
    x = _moved(dice, *_shape(dice))
    return Case([x], {"key": _key(dice, x.shape)}, exact=True)


@primitive(
    Declaration(
        _index,
        ROWS,
        lambda n, c: call(
            [normal(n, c)],
            (n, c),
            settings={"key": np.random.default_rng(0).permutation(n)},
            exact=True,
        ),
        usual=(4096, 256),
    )
)
def index(x: Array, *, key: Any) -> Array:
    """x[key], NumPy's basic and advanced indexing."""
    return x[key]


def _index_grad(dice: Dice) -> Case:
    shape = _shape(dice)
    key = _key(dice, shape)
    picked = np.zeros(shape, bool)[key].shape
    settings = {"key": key, "input_shape": shape}
    return Case([dice.array(*picked)], settings, exact=dice.whole, length=math.prod(picked))


@primitive(
    Declaration(
        _index_grad,
        ROWS,
        lambda n, c: call(
            [normal(n, c)],
            (n, c),
            settings={
                "key": np.random.default_rng(0).integers(0, max(n, 1), n),
                "input_shape": (n, c),
            },
            length=16,
            scale=4.0,
        ),
        usual=(4096, 256),
    )
)
def index_grad(gy: Array, *, key: Any, input_shape: tuple[int, ...]) -> Array:
    """gy added at `key` into zeros of `input_shape`; an element picked twice gets both."""
    size = math.prod(input_shape)
    numbers = np.cumsum(np.ones_like(gy, shape=(size,), dtype=np.int64)) - 1
    picked = np.reshape(numbers, input_shape)[key]
    # Flat positions and not the key itself: CuPy's add.at takes arrays, but no slices or tuples.
    gx = np.zeros_like(gy, shape=(size,))
    np.add.at(gx, np.reshape(picked, -1), np.reshape(gy, -1))
    return np.reshape(gx, input_shape)


def _broadcast_to(dice: Dice) -> Case:
    shape = _shape(dice)
    from_shape = tuple(1 if dice.chance(0.4) else n for n in shape)
    from_shape = from_shape[dice.between(0, len(shape)) :] if dice.chance(0.5) else from_shape
    return Case([_moved(dice, *from_shape)], {"shape": shape}, exact=True)


@primitive(
    _move(
        _broadcast_to,
        lambda *shape: call([normal(shape[-1])], shape, settings={"shape": shape}),
    )
)
def broadcast_to(x: Array, *, shape: tuple[int, ...]) -> Array:
    """x repeated to `shape` by NumPy's broadcasting rules; a read-only view."""
    return np.broadcast_to(x, shape)
