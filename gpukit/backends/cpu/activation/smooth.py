"""The other activations, in pieces (see elementwise.py), as the definitions say."""

from __future__ import annotations

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cpu.elementwise import HEAVY, LIGHT, in_pieces, same
from gpukit.backends.cpu.runtime.common import Array, is_float


def _decay(x: Array, out: Array) -> None:
    """out = e^-|x|."""
    np.abs(x, out=out)
    np.negative(out, out=out)
    np.exp(out, out=out)


def _logistic(out: Array, x: Array) -> None:
    _decay(x, out)
    below = out + 1
    np.copyto(out, 1, where=x >= 0)
    np.divide(out, below, out=out)


def _softplus(out: Array, x: Array) -> None:
    _decay(x, out)
    np.log1p(out, out=out)
    out += np.maximum(x, 0)


def _softplus_grad(out: Array, gy: Array, x: Array) -> None:
    _logistic(out, x)
    out *= gy


def _sigmoid_grad(out: Array, gy: Array, y: Array) -> None:
    np.subtract(1, y, out=out)
    out *= y
    out *= gy


def _tanh_grad(out: Array, gy: Array, y: Array) -> None:
    np.subtract(1, y, out=out)
    out *= 1 + y
    out *= gy


def _softsign(out: Array, x: Array) -> None:
    np.abs(x, out=out)
    out += 1
    np.divide(x, out, out=out)


def _softsign_grad(out: Array, gy: Array, x: Array) -> None:
    np.abs(x, out=out)
    out += 1
    np.divide(gy / out, out, out=out)


@p.sigmoid.on("cpu", name="pieces", supports=is_float)
def _(x: Array) -> Array:
    return in_pieces(_logistic, HEAVY, x)


@p.sigmoid_grad.on("cpu", name="pieces", supports=same)
def _(gy: Array, y: Array) -> Array:
    return in_pieces(_sigmoid_grad, LIGHT, gy, y)


@p.tanh_grad.on("cpu", name="pieces", supports=same)
def _(gy: Array, y: Array) -> Array:
    return in_pieces(_tanh_grad, LIGHT, gy, y)


@p.softplus.on("cpu", name="pieces", supports=is_float)
def _(x: Array) -> Array:
    return in_pieces(_softplus, HEAVY, x)


@p.softplus_grad.on("cpu", name="pieces", supports=same)
def _(gy: Array, x: Array) -> Array:
    return in_pieces(_softplus_grad, HEAVY, gy, x)


@p.softsign.on("cpu", name="pieces", supports=is_float)
def _(x: Array) -> Array:
    return in_pieces(_softsign, LIGHT, x)


@p.softsign_grad.on("cpu", name="pieces", supports=same)
def _(gy: Array, x: Array) -> Array:
    return in_pieces(_softsign_grad, LIGHT, gy, x)


@p.leaky_relu.on("cpu", name="pieces", supports=same)
def _(x: Array, *, slope: float) -> Array:
    def leak(out: Array, x: Array) -> None:
        np.multiply(x, float(slope), out=out)
        np.copyto(out, x, where=x > 0)

    return in_pieces(leak, LIGHT, x)


@p.leaky_relu_grad.on("cpu", name="pieces", supports=same)
def _(gy: Array, x: Array, *, slope: float) -> Array:
    def leak(out: Array, gy: Array, x: Array) -> None:
        np.multiply(gy, float(slope), out=out)
        np.copyto(out, gy, where=x > 0)

    return in_pieces(leak, LIGHT, gy, x)


@p.elu.on("cpu", name="pieces", supports=same)
def _(x: Array, *, alpha: float) -> Array:
    def bend(out: Array, x: Array) -> None:
        np.minimum(x, 0, out=out)
        np.expm1(out, out=out)
        out *= float(alpha)
        np.copyto(out, x, where=x > 0)

    return in_pieces(bend, HEAVY, x)


@p.elu_grad.on("cpu", name="pieces", supports=same)
def _(gy: Array, y: Array, *, alpha: float) -> Array:
    def bend(out: Array, gy: Array, y: Array) -> None:
        np.add(y, float(alpha), out=out)
        out *= gy
        np.copyto(out, gy, where=y > 0)

    return in_pieces(bend, LIGHT, gy, y)
