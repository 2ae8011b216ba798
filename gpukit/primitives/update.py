"""Optimiser steps over a flat buffer, in place.

Every array is 1-D, contiguous and of one float dtype: w the parameters, g their gradient, the
others the optimiser's state, zero at the start. weight_decay adds weight_decay·w to the gradient.
"""

from __future__ import annotations

import math

import numpy as np

from gpukit.dispatch.primitive import primitive
from gpukit.primitives.accumulate import Array


def _decayed(g: Array, w: Array, weight_decay: float) -> Array:
    """g + weight_decay·w."""
    return g + float(weight_decay) * w if weight_decay else g


@primitive
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


@primitive
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


@primitive
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


@primitive
def adagrad_update(
    w: Array, a: Array, g: Array, *, lr: float, epsilon: float, weight_decay: float
) -> None:
    """a ← a + g²; w ← w - lr·g/(√a + epsilon). Duchi et al., 2011."""
    g = _decayed(g, w, weight_decay)
    a[...] = a + np.square(g)
    w[...] = w - float(lr) * g / (np.sqrt(a) + float(epsilon))
