"""Optimiser steps over a flat buffer, in place.

Every array is 1-D, contiguous and of one float dtype: w the parameters, g their gradient, the
others the optimiser's state, zero at the start. weight_decay adds weight_decay·w to the gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpukit.dispatch.declaration import Declaration, Form, Problem
from gpukit.dispatch.dice import Case, Dice
from gpukit.dispatch.primitive import primitive
from gpukit.primitives.accumulate import Array
from gpukit.primitives.calls import MANY, between, call, normal

PARAMETERS = Form("update", ("parameters",), layers="parameters", batched=False)


def _update(
    draw: Callable[[Dice], Case], changed: int, squares: int | None = None, **settings: Any
) -> Declaration:
    """Of an optimiser that changes its first `changed` arguments, among them means of `squares`."""

    def of(count: int) -> Problem:
        arguments = [
            between(0.5, 2)(count) if i == squares else normal(count) for i in range(changed + 1)
        ]
        return call(
            arguments,
            *[(count,)] * changed,
            settings={"lr": 0.01, **settings},
            length=8,
            scale=2.0,
            in_place=tuple(range(changed)),
        )

    return Declaration(draw, PARAMETERS, of, usual=MANY)


def _buffers(dice: Dice, *positive: bool) -> list[Any]:
    """In place: contiguous arrays, as views of the parameter buffer are."""
    size = dice.one(0, 1, 3, dice.between(1, 20), dice.between(1000, 3000))
    return [np.ascontiguousarray(dice.array(size, positive=p)) for p in positive]


def _rates(dice: Dice) -> dict[str, Any]:
    return {"lr": dice.one(0.1, 1e-3), "weight_decay": dice.one(0.0, 0.01)}


def _decayed(g: Array, w: Array, weight_decay: float) -> Array:
    """g + weight_decay·w."""
    return g + float(weight_decay) * w if weight_decay else g


def _sgd(dice: Dice) -> Case:
    size = dice.one(0, 1, 3, dice.between(1, 20), dice.between(1000, 3000))
    momentum = dice.one(0.0, 0.9)
    w, v, g = (np.ascontiguousarray(dice.array(size)) for _ in range(3))
    settings = _rates(dice) | {"momentum": momentum, "nesterov": dice.chance(0.5)}
    return Case([w, v if momentum else None, g], settings, length=4)


@primitive(_update(_sgd, 2, momentum=0.9, weight_decay=5e-4, nesterov=False))
def sgd_update(
    w: Array,
    v: Array | None,
    g: Array,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    nesterov: bool,
) -> None:
    """v ← momentum·v - lr·(g + wd·w); w ← w + v, or with Nesterov w + momentum·v - lr·(g + wd·w).

    Nesterov's form uses the new v. v may be None when momentum is 0.
    Polyak, 1964; Sutskever et al., 2013, in Keras's sign convention.
    """
    step = float(lr) * _decayed(g, w, weight_decay)
    if v is None:
        w[...] = w - step
        return
    v[...] = float(momentum) * v - step
    w[...] = w + float(momentum) * v - step if nesterov else w + v


def _adam(dice: Dice) -> Case:
    settings = {
        "beta1": dice.one(0.9, 0.5),
        "beta2": dice.one(0.999, 0.9),
        "epsilon": dice.one(1e-7, 1e-3),
        "step": dice.one(1, 2, 1000),
    }
    arrays = _buffers(dice, False, False, True, False)
    return Case(arrays, settings | _rates(dice), length=8, scale=2.0)


@primitive(_update(_adam, 3, 2, beta1=0.9, beta2=0.999, epsilon=1e-7, step=10, weight_decay=0.0))
def adam_update(
    w: Array,
    m: Array,
    v: Array,
    g: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    step: int,
    weight_decay: float,
) -> None:
    """m ← β1·m + (1-β1)·g; v ← β2·v + (1-β2)·g²; w ← w - lr·m̂/(√v̂ + epsilon).

    m̂ = m/(1 - β1^step), v̂ = v/(1 - β2^step), step from 1. Kingma and Ba, 2014, algorithm 1.
    """
    beta1, beta2 = float(beta1), float(beta2)
    g = _decayed(g, w, weight_decay)
    m[...] = beta1 * m + (1 - beta1) * g
    v[...] = beta2 * v + (1 - beta2) * np.square(g)
    root = np.sqrt(v) / math.sqrt(1 - beta2**step)
    w[...] = w - (float(lr) / (1 - beta1**step)) * m / (root + float(epsilon))


def _rmsprop(dice: Dice) -> Case:
    momentum = dice.one(0.0, 0.9)
    w, a, v, g = _buffers(dice, False, True, False, False)
    settings = {"rho": dice.one(0.9, 0.99), "epsilon": 1e-7, "momentum": momentum}
    return Case([w, a, v if momentum else None, g], settings | _rates(dice), length=8, scale=2.0)


@primitive(_update(_rmsprop, 3, 1, rho=0.9, epsilon=1e-7, momentum=0.9, weight_decay=0.0))
def rmsprop_update(
    w: Array,
    a: Array,
    v: Array | None,
    g: Array,
    *,
    lr: float,
    rho: float,
    epsilon: float,
    momentum: float,
    weight_decay: float,
) -> None:
    """a ← rho·a + (1-rho)·g²; step = lr·g/(√a + epsilon); w ← w - step.

    With momentum v ← momentum·v - step; w ← w + v. v may be None when momentum is 0.
    Tieleman and Hinton, 2012, lecture 6.5.
    """
    g = _decayed(g, w, weight_decay)
    a[...] = float(rho) * a + (1 - float(rho)) * np.square(g)
    step = float(lr) * g / (np.sqrt(a) + float(epsilon))
    if v is None:
        w[...] = w - step
        return
    v[...] = float(momentum) * v - step
    w[...] = w + v


def _adagrad(dice: Dice) -> Case:
    arrays = _buffers(dice, False, True, False)
    return Case(arrays, {"epsilon": 1e-7} | _rates(dice), length=8)


@primitive(_update(_adagrad, 2, 1, epsilon=1e-7, weight_decay=0.0))
def adagrad_update(
    w: Array, a: Array, g: Array, *, lr: float, epsilon: float, weight_decay: float
) -> None:
    """a ← a + g²; w ← w - lr·g/(√a + epsilon). Duchi et al., 2011."""
    g = _decayed(g, w, weight_decay)
    a[...] = a + np.square(g)
    w[...] = w - float(lr) * g / (np.sqrt(a) + float(epsilon))
