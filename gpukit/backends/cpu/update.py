"""Optimiser steps over the flat buffer in one pass: read and write each value once."""

from __future__ import annotations

from typing import Any

from gpukit.backends import reference as p
from gpukit.backends.cpu.activation import pieces_of
from gpukit.backends.cpu.common import Array, is_float, plain
from gpukit.backends.cpu.jit import at, jit
from gpukit.backends.cpu.threads import parallel_for


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
