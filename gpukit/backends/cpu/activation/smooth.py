"""The other activations, in pieces (see elementwise.py), as the definitions say."""

from __future__ import annotations

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cpu.elementwise import HEAVY, pieces
from gpukit.backends.cpu.runtime.common import Array
from gpukit.backends.cpu.runtime.threads import LIGHT


def _decay(x: Array, out: Array) -> None:
    """out = e^-|x|."""
    np.abs(x, out=out)
    np.negative(out, out=out)
    np.exp(out, out=out)


@pieces(p.sigmoid, HEAVY)
def _logistic(out: Array, x: Array) -> None:
    _decay(x, out)
    below = out + 1
    np.copyto(out, 1, where=x >= 0)
    np.divide(out, below, out=out)


@pieces(p.softplus, HEAVY)
def _(out: Array, x: Array) -> None:
    _decay(x, out)
    np.log1p(out, out=out)
    out += np.maximum(x, 0)


@pieces(p.softplus_grad, HEAVY)
def _(out: Array, gy: Array, x: Array) -> None:
    _logistic(out, x)
    out *= gy


@pieces(p.sigmoid_grad, LIGHT)
def _(out: Array, gy: Array, y: Array) -> None:
    np.subtract(1, y, out=out)
    out *= y
    out *= gy


@pieces(p.tanh_grad, LIGHT)
def _(out: Array, gy: Array, y: Array) -> None:
    np.subtract(1, y, out=out)
    out *= 1 + y
    out *= gy


@pieces(p.softsign, LIGHT)
def _(out: Array, x: Array) -> None:
    np.abs(x, out=out)
    out += 1
    np.divide(x, out, out=out)


@pieces(p.softsign_grad, LIGHT)
def _(out: Array, gy: Array, x: Array) -> None:
    np.abs(x, out=out)
    out += 1
    np.divide(gy / out, out, out=out)


@pieces(p.leaky_relu, LIGHT)
def _(out: Array, x: Array, *, slope: float) -> None:
    np.multiply(x, float(slope), out=out)
    np.copyto(out, x, where=x > 0)


@pieces(p.leaky_relu_grad, LIGHT)
def _(out: Array, gy: Array, x: Array, *, slope: float) -> None:
    np.multiply(gy, float(slope), out=out)
    np.copyto(out, gy, where=x > 0)


@pieces(p.elu, HEAVY)
def _(out: Array, x: Array, *, alpha: float) -> None:
    np.minimum(x, 0, out=out)
    np.expm1(out, out=out)
    out *= float(alpha)
    np.copyto(out, x, where=x > 0)


@pieces(p.elu_grad, LIGHT)
def _(out: Array, gy: Array, y: Array, *, alpha: float) -> None:
    np.add(y, float(alpha), out=out)
    out *= gy
    np.copyto(out, gy, where=y > 0)
