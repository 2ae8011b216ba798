"""Fully connected layers: one GEMM forward, one for each gradient."""

from __future__ import annotations

import math

import numpy as np

from gpukit.dispatch.declaration import Declaration, Form, Problem, Sizes
from gpukit.dispatch.dice import Case, Dice
from gpukit.dispatch.primitive import primitive
from gpukit.primitives.accumulate import Array, wide
from gpukit.primitives.activation import activate
from gpukit.primitives.calls import call, normal

LAYER = Form("dense", ("N", "inputs", "outputs"), layers="denses")
MATRICES = Form("matmul", ("M", "L", "N"), layers="denses")


def _sizes(dice: Dice) -> tuple[int, int, int]:
    """Rows, inner length, columns."""
    wide = dice.chance(0.25)
    most = 150 if wide else 20
    return dice.one(0, 1, dice.between(1, most)), dice.between(1, most), dice.between(1, most)


def _product(x: Sizes, y: Sizes, z: Sizes, length: int, *more: Sizes) -> Problem:
    """z, of sums of `length` products of x and y; `more` arguments."""
    flop = 2 * math.prod(z) * length
    arguments = [normal(*shape) for shape in (x, y, *more)]
    return call(arguments, z, flop=flop, least_flop=flop, length=length)


def _dense(dice: Dice) -> Case:
    m, k, n = _sizes(dice)
    activation = dice.one(None, None, "relu", "sigmoid", "tanh")
    return Case(
        [dice.array(m, k), dice.array(k, n), dice.array(n) if dice.chance(0.5) else None],
        {"activation": activation},
        exact=dice.whole and activation in (None, "relu"),
        length=k,
    )


@primitive(
    Declaration(
        _dense,
        LAYER,
        lambda n, i, o: _product((n, i), (i, o), (n, o), i, (o,)),
        usual=(128, 1024, 512),
        usual_settings={"activation": "relu"},
    )
)
def dense(x: Array, w: Array, b: Array | None = None, *, activation: str | None = None) -> Array:
    """y = φ(x·w + b): x (N, in), w (in, out), b (out,) or None -> y (N, out), one float dtype.

    `activation` φ: None, "relu", "sigmoid" or "tanh". Half types accumulate in float32.
    """
    # (N, out) = (N, in) @ (in, out)
    y = np.matmul(wide(x), wide(w))
    if b is not None:
        y = y + b
    return activate(y, activation).astype(x.dtype, copy=False)


def _dense_input_grad(dice: Dice) -> Case:
    m, k, n = _sizes(dice)
    return Case([dice.array(m, k), dice.array(n, k)], exact=dice.whole, length=k)


@primitive(
    Declaration(
        _dense_input_grad,
        LAYER,
        lambda n, i, o: _product((n, o), (i, o), (n, i), o),
        usual=(128, 1024, 512),
    )
)
def dense_input_grad(gy: Array, w: Array) -> Array:
    """gx = gy·wᵀ: gy (N, out), w (in, out) -> gx (N, in)."""
    # (N, in) = (N, out) @ (out, in)
    return np.matmul(wide(gy), np.transpose(wide(w))).astype(gy.dtype, copy=False)


def _dense_weight_grad(dice: Dice) -> Case:
    m, k, n = _sizes(dice)
    return Case([dice.array(m, k), dice.array(m, n)], exact=dice.whole, length=m)


@primitive(
    Declaration(
        _dense_weight_grad,
        LAYER,
        lambda n, i, o: _product((n, i), (n, o), (i, o), n),
        usual=(128, 1024, 512),
    )
)
def dense_weight_grad(x: Array, gy: Array) -> Array:
    """gw = xᵀ·gy: x (N, in), gy (N, out) -> gw (in, out); zeros for an empty batch."""
    # (in, out) = (in, N) @ (N, out)
    return np.matmul(np.transpose(wide(x)), wide(gy)).astype(x.dtype, copy=False)


def _matmul(dice: Dice) -> Case:
    m, k, n = _sizes(dice)
    return Case([dice.array(m, k), dice.array(k, n)], exact=dice.whole, length=k)


def _square(dice: Dice) -> Case:
    m, k, n = (dice.one(8, 16, 32, 64) for _ in range(3))
    return Case([dice.array(m, k), dice.array(k, n)], exact=dice.whole, length=k)


@primitive(
    Declaration(
        _matmul,
        MATRICES,
        lambda m, k, n: _product((m, k), (k, n), (m, n), k),
        usual=(512, 512, 512),
        plain=_square,
    )
)
def matmul(a: Array, b: Array) -> Array:
    """Matrix product of two matrices of one float dtype: a (M, L), b (L, N) -> (M, N)."""
    # (M, N) = (M, L) @ (L, N)
    return np.matmul(wide(a), wide(b)).astype(a.dtype, copy=False)
