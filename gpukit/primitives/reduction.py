"""Sums, means, maxima over axes, a check of all numbers. Sums accumulate as accumulate.py says.

`axis` is an int, a tuple of ints or None (all axes). The result is an array, perhaps of shape ().
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpukit.dispatch.declaration import Argument, Arrays, Declaration, Form, Problem
from gpukit.dispatch.dice import Case, Dice
from gpukit.dispatch.primitive import primitive
from gpukit.primitives.accumulate import Array, axes_of, long_mean, long_sum, remaining_shape
from gpukit.primitives.calls import MANY, MAP, call, normal

Axis = int | tuple[int, ...] | None

MATRIX = Form("reduction", ("N", "C", "axis"), (1,), layers="softmaxes")
MOST_ROWS = 4000  # of a reduction's results, which a sanitizer runs thread by thread


def _of_matrix(n: int, c: int, axis: int, **known: Any) -> Problem:
    """Rows (axis 1) or columns (axis 0) of a matrix (N,C) to one number each."""
    results = (c,) if axis == 0 else (n,)
    return call([normal(n, c)], results, **known)


def _reduction(
    usual: tuple[int, int, int], *, holes: bool = False, total: bool = False
) -> Declaration:
    """`holes`: a maximum, of NaN and infinities, too. `total`: a sum, not a mean."""

    def draw(dice: Dice) -> Case:
        shape = dice.shape() if dice.chance(0.7) else (dice.between(1, 40_000), dice.between(1, 5))
        if holes:
            shape = tuple(max(n, 1) for n in shape)
        axes = tuple(a for a in range(len(shape)) if dice.chance(0.5))
        axis: Axis = None if dice.chance(0.2) else axes
        if axis == axes and 0 not in axes:  # a long axis is for sums: results are a thread each
            shape = (*(min(n, MOST_ROWS) for n in shape[:1]), *shape[1:])
        if len(axes) == 1 and dice.chance(0.5):
            axis = axes[0]
        x = dice.array(*shape)
        length = math.prod(x.shape[a] for a in (axes if axis is not None else range(x.ndim)))
        return Case(
            [dice.holes(x) if holes else x],
            {"axis": axis, "keepdims": dice.chance(0.5)},
            exact=holes or (total and dice.whole),
            length=min(length, 200),  # blocked sums: no longer one runs on
            scale=math.sqrt(max(length, 1)) if total else 1.0,
        )

    def of(n: int, c: int, axis: int) -> Problem:
        length = n if axis == 0 else c
        return _of_matrix(
            n,
            c,
            axis,
            settings={"axis": axis, "keepdims": False},
            length=min(length, 200),
            scale=math.sqrt(length) if total else 1.0,
            exact=holes,
        )

    return Declaration(draw, MATRIX, of, usual)


@primitive(_reduction((8 * 28 * 28, 128, 0), total=True))
def reduce_sum(x: Array, *, axis: Axis, keepdims: bool) -> Array:
    """Σ x over `axis`, in the dtype of x; 0 for no elements."""
    return long_sum(x, axis, keepdims)


@primitive(_reduction((256, 1000, 1)))
def reduce_mean(x: Array, *, axis: Axis, keepdims: bool) -> Array:
    """Mean of x over `axis`, in the dtype of x; 0 for no elements."""
    return long_mean(x, axis, keepdims)


@primitive(_reduction((256, 1000, 1), holes=True))
def reduce_max(x: Array, *, axis: Axis, keepdims: bool) -> Array:
    """Maximum of x over `axis`; NaN if any is NaN. No elements: ValueError, as in NumPy."""
    axes = axes_of(x, axis)
    kept = np.max(x, axis=axes, keepdims=True)
    return kept if keepdims else np.reshape(kept, remaining_shape(x.shape, axes))


def _argmax(dice: Dice) -> Case:
    shape = tuple(max(n, 1) for n in dice.shape()) or (1,)
    if dice.chance(0.2):
        shape = dice.one((dice.between(1, 40_000),), (dice.between(1, 20_000), 2))
    axis = dice.between(-len(shape), len(shape) - 1)
    if dice.chance(0.1):  # nothing to look through for nobody
        shape = tuple(n if a == axis % len(shape) else 0 for a, n in enumerate(shape))
    return Case([dice.holes(dice.array(*shape))], {"axis": axis}, exact=True)


@primitive(
    Declaration(
        _argmax,
        MATRIX,
        lambda n, c, axis: _of_matrix(
            n,
            c,
            axis,
            settings={"axis": axis},
            written=8 * (c if axis == 0 else n),
            length=min(n if axis == 0 else c, 200),
            exact=True,
        ),
        usual=(256, 1000, 1),
    )
)
def argmax(x: Array, *, axis: int) -> Array:
    """int64 index of the maximum along `axis`: the first of several; the first NaN wins."""
    return np.argmax(x, axis=axis)


def _all_finite(dice: Dice) -> Case:
    x = dice.array(*(dice.shape() if dice.chance(0.8) else (dice.between(1, 40_000),)))
    if x.size and dice.chance(0.5):
        x = x.copy()
        at = np.unravel_index(dice.between(0, x.size - 1), x.shape)
        x[at] = dice.one(np.nan, np.inf, -np.inf, 1e30)
    return Case([x], exact=True)


def _perhaps_infinite(*shape: int) -> Argument:
    """Numbers of which the last is infinite, of some seeds."""

    def draw(random: np.random.Generator, _: Arrays) -> np.ndarray:
        last = np.inf if random.random() > 0.5 else 0
        x = random.standard_normal(shape, np.float32)
        x.reshape(-1)[-1:] += np.float32(last)
        return x

    return Argument(shape, np.float32, draw)


@primitive(
    Declaration(
        _all_finite,
        MAP,
        lambda *shape: call([_perhaps_infinite(*shape)], (), written=1, exact=True),
        usual=MANY,
    )
)
def all_finite(x: Array) -> Array:
    """bool of shape (): whether no element of x (any shape) is NaN or infinite; True for none.

    The flag stays on the device of x; reading it waits until what made x is done.
    """
    return np.all(np.isfinite(x))
