"""Optimiser steps over the flat buffer in one pass: read and write each value once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cpu.activation.piecewise import pieces_of
from gpukit.backends.cpu.runtime.common import Array, is_float, plain
from gpukit.backends.cpu.runtime.jit import at, jit
from gpukit.backends.cpu.runtime.threads import parallel_for


@jit
def _sgd(w, g, lr, decay, first, last):  # type: ignore[no-untyped-def]
    for i in range(first, last):
        w[at(i)] -= lr * (g[at(i)] + decay * w[at(i)])


@jit
def _momentum(w, v, g, lr, momentum, decay, nesterov, first, last):  # type: ignore[no-untyped-def]
    if nesterov:
        for i in range(first, last):
            step = lr * (g[at(i)] + decay * w[at(i)])
            v[at(i)] = momentum * v[at(i)] - step
            w[at(i)] += momentum * v[at(i)] - step
    else:
        for i in range(first, last):
            v[at(i)] = momentum * v[at(i)] - lr * (g[at(i)] + decay * w[at(i)])
            w[at(i)] += v[at(i)]


def _writable(w: Array) -> bool:
    return is_float(w) and w.ndim == 1 and bool(w.flags.carray)


def _sgd_supports(w: Array, v: Array | None, g: Array, **_: Any) -> bool:
    return _writable(w) and (v is None or _writable(v)) and g.dtype == w.dtype


@p.sgd_update.on("cpu", name="numba", supports=_sgd_supports)
def _(
    w: Array,
    v: Array | None,
    g: Array,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    nesterov: bool,
) -> None:
    real, pieces, g = w.dtype.type, pieces_of(w.size), plain(g)
    rate, decay = real(lr), real(weight_decay)
    if v is None:
        parallel_for(len(pieces), lambda i: _sgd(w, g, rate, decay, *pieces[i]))
        return
    mu = real(momentum)
    parallel_for(len(pieces), lambda i: _momentum(w, v, g, rate, mu, decay, nesterov, *pieces[i]))


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


def _adam_supports(w: Array, m: Array, v: Array, g: Array, **_: Any) -> bool:
    return _writable(w) and _writable(m) and _writable(v) and g.dtype == w.dtype


@p.adam_update.on("cpu", name="numba", supports=_adam_supports)
def _(
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
    pieces, g = pieces_of(w.size), plain(g)
    root = 1 / math.sqrt(1 - beta2**step)
    values = (lr / (1 - beta1**step), beta1, beta2, epsilon, root, weight_decay)
    numbers = [w.dtype.type(value) for value in values]
    parallel_for(len(pieces), lambda i: _adam(w, m, v, g, *numbers, *pieces[i]))


@jit
def _rmsprop(w, a, g, lr, rho, epsilon, decay, first, last):  # type: ignore[no-untyped-def]
    one = w.dtype.type(1)
    for i in range(first, last):
        gradient = g[at(i)] + decay * w[at(i)]
        square = rho * a[at(i)] + (one - rho) * gradient * gradient
        a[at(i)] = square
        w[at(i)] -= lr * gradient / (np.sqrt(square) + epsilon)


@jit
def _rmsprop_momentum(w, a, v, g, lr, rho, epsilon, momentum, decay, first, last):  # type: ignore[no-untyped-def]
    one = w.dtype.type(1)
    for i in range(first, last):
        gradient = g[at(i)] + decay * w[at(i)]
        square = rho * a[at(i)] + (one - rho) * gradient * gradient
        a[at(i)] = square
        change = momentum * v[at(i)] - lr * gradient / (np.sqrt(square) + epsilon)
        v[at(i)] = change
        w[at(i)] += change


def _rmsprop_supports(w: Array, a: Array, v: Array | None, g: Array, **_: Any) -> bool:
    return _writable(w) and _writable(a) and (v is None or _writable(v)) and g.dtype == w.dtype


@p.rmsprop_update.on("cpu", name="numba", supports=_rmsprop_supports)
def _(
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
    pieces, g = pieces_of(w.size), plain(g)
    rate, mean, tiny, mu, decay = map(w.dtype.type, (lr, rho, epsilon, momentum, weight_decay))
    if v is None:
        parallel_for(len(pieces), lambda i: _rmsprop(w, a, g, rate, mean, tiny, decay, *pieces[i]))
        return
    parallel_for(
        len(pieces),
        lambda i: _rmsprop_momentum(w, a, v, g, rate, mean, tiny, mu, decay, *pieces[i]),
    )


@jit
def _adagrad(w, a, g, lr, epsilon, decay, first, last):  # type: ignore[no-untyped-def]
    for i in range(first, last):
        gradient = g[at(i)] + decay * w[at(i)]
        square = a[at(i)] + gradient * gradient
        a[at(i)] = square
        w[at(i)] -= lr * gradient / (np.sqrt(square) + epsilon)


def _adagrad_supports(w: Array, a: Array, g: Array, **_: Any) -> bool:
    return _writable(w) and _writable(a) and g.dtype == w.dtype


@p.adagrad_update.on("cpu", name="numba", supports=_adagrad_supports)
def _(w: Array, a: Array, g: Array, *, lr: float, epsilon: float, weight_decay: float) -> None:
    pieces, g = pieces_of(w.size), plain(g)
    rate, tiny, decay = map(w.dtype.type, (lr, epsilon, weight_decay))
    parallel_for(len(pieces), lambda i: _adagrad(w, a, g, rate, tiny, decay, *pieces[i]))
