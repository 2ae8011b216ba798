"""Random arguments for the primitives that move elements; as cases.py."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpukit.verify.cases import MAKERS, Case, Dice

KINDS = (np.uint8, np.int16, np.int32, np.int64, np.float64, np.bool_)


def _moved(dice: Dice, *shape: int) -> np.ndarray:
    """Numbers to be moved: mostly floats, now and then elements of another size, or a view."""
    made = dice.holes(dice.array(*shape))
    if dice.chance(0.25):
        made = dice.integers(0, 2, shape, dice.one(*KINDS))
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


def _order(dice: Dice, count: int) -> tuple[int, ...]:
    order: list[int] = []
    while len(order) < count:
        order.append(dice.one(*(a for a in range(count) if a not in order)))
    return tuple(order)


def _reshape(dice: Dice) -> Case:
    x = _moved(dice, *_shape(dice))
    shape = dice.one(x.shape[::-1], (x.size,), (*x.shape, 1))
    if x.size and shape:
        at = dice.between(0, len(shape) - 1)
        shape = dice.one(shape, (*shape[:at], -1, *shape[at + 1 :]))
    return Case([x], {"shape": shape}, exact=True)


def _transpose(dice: Dice) -> Case:
    x = _moved(dice, *_shape(dice))
    return Case([x], {"axes": _order(dice, x.ndim)}, exact=True)


def _broadcast_to(dice: Dice) -> Case:
    shape = _shape(dice)
    from_shape = tuple(1 if dice.chance(0.4) else n for n in shape)
    from_shape = from_shape[dice.between(0, len(shape)) :] if dice.chance(0.5) else from_shape
    return Case([_moved(dice, *from_shape)], {"shape": shape}, exact=True)


def _parts(dice: Dice) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """A shape of one axis at least, one of its axes, and the sizes of parts along it."""
    shape = _shape(dice) or (dice.between(0, 9),)
    axis = dice.between(0, len(shape) - 1)
    parts: list[int] = []
    while sum(parts) < shape[axis]:
        parts.append(dice.between(0, shape[axis] - sum(parts)))
    return shape, axis, tuple(parts) or (0,)


def _split(dice: Dice) -> Case:
    shape, axis, parts = _parts(dice)
    axis -= len(shape) if dice.chance(0.3) else 0
    return Case([_moved(dice, *shape)], {"sections": parts, "axis": axis}, exact=True)


def _concat(dice: Dice) -> Case:
    shape, axis, parts = _parts(dice)
    first = _moved(dice, *shape[:axis], parts[0], *shape[axis + 1 :])
    arrays = [first] + [
        dice.array(*shape[:axis], n, *shape[axis + 1 :]).astype(first.dtype) for n in parts[1:]
    ]
    axis -= len(shape) if dice.chance(0.3) else 0
    return Case([arrays], {"axis": axis}, exact=True)


def _pad(dice: Dice) -> Case:
    x = _moved(dice, *(_shape(dice) or (1,)))
    widths = tuple((dice.one(0, 0, 1, 2), dice.one(0, 0, 0, 3)) for _ in x.shape)
    value = dice.one(0, 1) if x.dtype.kind in "iub" else dice.one(0.0, -1.5, float("nan"))
    return Case([x], {"widths": widths, "value": value}, exact=True)


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


def _index_grad(dice: Dice) -> Case:
    shape = _shape(dice)
    key = _key(dice, shape)
    picked = np.zeros(shape, bool)[key].shape
    settings = {"key": key, "input_shape": shape}
    return Case([dice.array(*picked)], settings, exact=dice.whole, length=math.prod(picked))


MAKERS.update(
    reshape=_reshape,
    transpose=_transpose,
    broadcast_to=_broadcast_to,
    split=_split,
    concat=_concat,
    pad=_pad,
    index=_index,
    index_grad=_index_grad,
)
