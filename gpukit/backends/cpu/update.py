"""Optimiser steps over the flat buffer in one pass: read and write each value once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cpu.runtime.common import plain, same_floats
from gpukit.backends.cpu.runtime.jit import at, jit
from gpukit.backends.cpu.runtime.threads import for_ranges, tasks_of
from gpukit.dispatch.primitive import Primitive, with_signature


def _supports(*arrays: Any, **_: Any) -> bool:
    in_place = all(a is None or (a.ndim == 1 and a.flags.carray) for a in arrays[:-1])
    return in_place and same_floats(*arrays)


def _register(update: Primitive, loop: Any, numbers: Callable[..., tuple[float, ...]]) -> None:
    """By `loop` over w, the optimiser's state, g, and `numbers` of the settings in w's dtype."""

    def run(*arrays: Any, **settings: Any) -> None:
        *state, g = arrays
        w = state[0]
        own = map(w.dtype.type, numbers(**settings))
        for_ranges(tasks_of(w.size, w.size), loop, *state, plain(g), *own)

    update.on("cpu", name="numba", supports=_supports)(with_signature(update, run))


@jit
def _sgd(w, v, g, lr, momentum, decay, nesterov, first, last):  # type: ignore[no-untyped-def]
    for i in range(first, last):
        step = lr * (g[at(i)] + decay * w[at(i)])
        if v is None:
            w[at(i)] -= step
        elif nesterov:
            v[at(i)] = momentum * v[at(i)] - step
            w[at(i)] += momentum * v[at(i)] - step
        else:
            v[at(i)] = momentum * v[at(i)] - step
            w[at(i)] += v[at(i)]


_register(
    p.sgd_update,
    _sgd,
    lambda lr, momentum, weight_decay, nesterov: (lr, momentum, weight_decay, nesterov),
)


@jit
def _adam(w, m, v, g, lr, beta1, beta2, epsilon, root, decay, first, last):  # type: ignore[no-untyped-def]
    """lr and root hold the bias corrections: lr/(1 - beta1^step), 1/√(1 - beta2^step)."""
    one = w.dtype.type(1)
    for i in range(first, last):
        gradient = g[at(i)] + decay * w[at(i)]
        mean = beta1 * m[at(i)] + (one - beta1) * gradient
        square = beta2 * v[at(i)] + (one - beta2) * gradient * gradient
        m[at(i)] = mean
        v[at(i)] = square
        w[at(i)] -= lr * mean / (np.sqrt(square) * root + epsilon)


def _adam_numbers(
    lr: float, beta1: float, beta2: float, epsilon: float, step: int, weight_decay: float
) -> tuple[float, ...]:
    root = 1 / math.sqrt(1 - beta2**step)
    return lr / (1 - beta1**step), beta1, beta2, epsilon, root, weight_decay


_register(p.adam_update, _adam, _adam_numbers)


@jit
def _rmsprop(w, a, v, g, lr, rho, epsilon, momentum, decay, first, last):  # type: ignore[no-untyped-def]
    one = w.dtype.type(1)
    for i in range(first, last):
        gradient = g[at(i)] + decay * w[at(i)]
        square = rho * a[at(i)] + (one - rho) * gradient * gradient
        a[at(i)] = square
        change = lr * gradient / (np.sqrt(square) + epsilon)
        if v is None:
            w[at(i)] -= change
        else:
            v[at(i)] = momentum * v[at(i)] - change
            w[at(i)] += v[at(i)]


_register(
    p.rmsprop_update,
    _rmsprop,
    lambda lr, rho, epsilon, momentum, weight_decay: (lr, rho, epsilon, momentum, weight_decay),
)


@jit
def _adagrad(w, a, g, lr, epsilon, decay, first, last):  # type: ignore[no-untyped-def]
    for i in range(first, last):
        gradient = g[at(i)] + decay * w[at(i)]
        square = a[at(i)] + gradient * gradient
        a[at(i)] = square
        w[at(i)] -= lr * gradient / (np.sqrt(square) + epsilon)


_register(
    p.adagrad_update,
    _adagrad,
    lambda lr, epsilon, weight_decay: (lr, epsilon, weight_decay),
)
