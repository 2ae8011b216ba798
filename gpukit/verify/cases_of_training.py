"""Random arguments for what training adds: batch norm, optimisers, losses, checks; as cases.py."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpukit.verify.cases import MAKERS, Case, Dice


def _columns(dice: Dice) -> tuple[int, ...]:
    """Rows of channels: few or none, or enough for several blocks and parts."""
    channels = dice.one(1, 2, 3, 5, 8, 31, 33, dice.between(1, 100))
    if dice.chance(0.2):
        return (dice.between(200, 3000), dice.one(1, 3, 33))
    return (dice.one(0, 1, 2, 3), *dice.one((), (5, 7), (1, 1), (13,)), channels)


def _away(dice: Dice, x: np.ndarray) -> np.ndarray:
    """x, now and then far from 0: what sums of squares lose their digits on."""
    return x + x.dtype.type(dice.one(0, 0, 3, -20))


def _vectors(dice: Dice, channels: int, *, positive: tuple[bool, ...]) -> list[np.ndarray]:
    return [dice.array(channels, positive=p) for p in positive]


def _batch_norm(dice: Dice) -> Case:
    x = _away(dice, dice.array(*_columns(dice)))
    vectors = _vectors(dice, x.shape[-1], positive=(False, False))
    # (x - mean)/σ carries the roundings of x, as large as that of 23, 1/σ ≤ 32 times.
    return Case([x, *vectors], {"epsilon": dice.one(1e-3, 0.1)}, length=16, scale=16.0)


def _batch_norm_inference(dice: Dice) -> Case:
    x = dice.array(*_columns(dice))
    vectors = _vectors(dice, x.shape[-1], positive=(False, False, False, True))
    return Case([x, *vectors], {"epsilon": dice.one(1e-3, 0.1)}, length=8, scale=4.0)


def _batch_norm_grad(dice: Dice) -> Case:
    shape = _columns(dice)
    arrays = [dice.array(*shape), dice.array(*shape)]
    vectors = _vectors(dice, shape[-1], positive=(False, False, True))
    count = max(math.prod(shape[:-1]), 1)
    return Case(
        [*arrays, *vectors],
        {"epsilon": dice.one(1e-3, 0.1)},
        length=min(count, 100),  # blocked sums: no longer one runs on
        scale=4 * math.sqrt(count),
    )


def _flat(dice: Dice, positive: tuple[bool, ...]) -> list[Any]:
    size = dice.one(0, 1, 3, dice.between(1, 20), dice.between(1000, 3000))
    # In place: contiguous arrays, as views of a flat buffer are.
    return [np.ascontiguousarray(dice.array(size, positive=p)) for p in positive]


def _rates(dice: Dice) -> dict[str, Any]:
    return {"lr": dice.one(0.1, 1e-3), "weight_decay": dice.one(0.0, 0.01)}


def _adam(dice: Dice) -> Case:
    settings = {
        "beta1": dice.one(0.9, 0.5),
        "beta2": dice.one(0.999, 0.9),
        "epsilon": dice.one(1e-7, 1e-3),
        "step": dice.one(1, 2, 1000),
    }
    arrays = _flat(dice, (False, False, True, False))
    return Case(arrays, settings | _rates(dice), length=8, scale=2.0)


def _rmsprop(dice: Dice) -> Case:
    momentum = dice.one(0.0, 0.9)
    w, a, v, g = _flat(dice, (False, True, False, False))
    settings = {"rho": dice.one(0.9, 0.99), "epsilon": 1e-7, "momentum": momentum}
    return Case([w, a, v if momentum else None, g], settings | _rates(dice), length=8, scale=2.0)


def _adagrad(dice: Dice) -> Case:
    arrays = _flat(dice, (False, True, False))
    return Case(arrays, {"epsilon": 1e-7} | _rates(dice), length=8)


def _examples(dice: Dice) -> tuple[int, ...]:
    """Values of a batch: from none to more than one block takes of a row."""
    rest = dice.one((), (1,), (10,), (3, 5), (1023,), (1025,), (dice.between(1, 3000),))
    if dice.chance(0.1):
        rest = (dice.between(16_000, 40_000),)
    return (dice.one(0, 1, 2, 9), *rest)


def _squared_error(dice: Dice) -> Case:
    shape = _examples(dice)
    length = min(math.prod(shape[1:]), 40)  # a tree of short sums of one sign
    return Case([dice.array(*shape), dice.array(*shape)], length=length)


def _squared_error_grad(dice: Dice) -> Case:
    shape = _examples(dice)
    return Case([dice.array(shape[0]), dice.array(*shape), dice.array(*shape)], scale=4.0)


def _argmax(dice: Dice) -> Case:
    shape = tuple(max(n, 1) for n in dice.shape()) or (1,)
    if dice.chance(0.2):
        shape = dice.one((dice.between(1, 40_000),), (dice.between(1, 20_000), 2))
    axis = dice.between(-len(shape), len(shape) - 1)
    if dice.chance(0.1):  # nothing to look through for nobody
        shape = tuple(n if a == axis % len(shape) else 0 for a, n in enumerate(shape))
    return Case([dice.holes(dice.array(*shape))], {"axis": axis}, exact=True)


def _all_finite(dice: Dice) -> Case:
    x = dice.array(*(dice.shape() if dice.chance(0.8) else (dice.between(1, 40_000),)))
    if x.size and dice.chance(0.5):
        x = x.copy()
        at = np.unravel_index(dice.between(0, x.size - 1), x.shape)
        x[at] = dice.one(np.nan, np.inf, -np.inf, 1e30)
    return Case([x], exact=True)


MAKERS.update(
    batch_norm=_batch_norm,
    batch_norm_inference=_batch_norm_inference,
    batch_norm_grad=_batch_norm_grad,
    adam_update=_adam,
    rmsprop_update=_rmsprop,
    adagrad_update=_adagrad,
    squared_error=_squared_error,
    squared_error_grad=_squared_error_grad,
    argmax=_argmax,
    all_finite=_all_finite,
)
