"""Softmax over the last axis, and losses per example, with gradients.

The mean over the batch is taken one level up.
"""

from __future__ import annotations

import math

import numpy as np

from gpukit.dispatch.declaration import Argument, Declaration
from gpukit.dispatch.dice import Case, Dice
from gpukit.dispatch.primitive import primitive
from gpukit.primitives.accumulate import Array, long_mean, long_sum
from gpukit.primitives.calls import CLASSES, ROWS, call, integers, normal


def log_normalised(x: Array) -> Array:
    """x - log Σ exp x over the last axis, shifted by the maximum."""
    shifted = x - np.max(x, axis=-1, keepdims=True)
    return shifted - np.log(long_sum(np.exp(shifted), -1, keepdims=True))


def normalised_exp(x: Array) -> Array:
    """exp x / Σ exp x over the last axis, shifted by the maximum."""
    exponentials = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return exponentials / long_sum(exponentials, -1, keepdims=True)


def _rows(dice: Dice) -> tuple[int, ...]:
    """Rows of classes, from one to more than a warp's team takes."""
    classes = dice.one(1, 2, 10, 31, 32, 33, dice.between(1, 300), dice.between(1024, 1500))
    return (*dice.one((1,), (3,), (9,), (2, 5), (0,)), classes)


def _softmax(logarithm: bool) -> Declaration:
    """Of softmax or its logarithm. Probabilities are about 1/C."""

    def draw(dice: Dice) -> Case:
        x = dice.array(*_rows(dice)) * dice.dtype(dice.one(1, 10))
        return Case([x], length=x.shape[-1])

    name = "log_softmax" if logarithm else "softmax"
    return Declaration(
        draw,
        ROWS,
        lambda n, c: call(
            [normal(n, c)], (n, c), length=min(c, 200), scale=1.0 if logarithm else 4 / c
        ),
        usual=CLASSES,
        torch=lambda torch: lambda x: getattr(torch, name)(x, 1),
        skeleton="softmax",
        expression="from[k] - m - log(sum)" if logarithm else "exp(from[k] - m) / sum",
    )


def _softmax_grad(logarithm: bool) -> Declaration:
    def draw(dice: Dice) -> Case:
        shape = _rows(dice)
        scale = math.sqrt(shape[-1])  # of a sum of that many numbers of random sign
        return Case([dice.array(*shape), dice.array(*shape)], length=shape[-1], scale=10 * scale)

    def drawn(n: int, c: int) -> Argument:
        of = log_normalised if logarithm else normalised_exp
        return Argument(
            (n, c),
            np.float32,
            lambda random, _: of(random.standard_normal((n, c), np.float32)),
        )

    name = f"_{'log_' if logarithm else ''}softmax_backward_data"
    return Declaration(
        draw,
        ROWS,
        lambda n, c: call(
            [normal(n, c), drawn(n, c)],
            (n, c),
            length=min(c, 200),
            scale=math.sqrt(c) if logarithm else 4 / c,
        ),
        usual=CLASSES,
        torch=lambda torch: lambda gy, y: getattr(torch.ops.aten, name)(gy, y, 1, torch.float32),
    )


@primitive(_softmax(logarithm=False))
def softmax(x: Array) -> Array:
    """exp x / Σ exp x over the last axis: x (…,K) -> y (…,K), rows that sum to 1."""
    return normalised_exp(x)


@primitive(_softmax_grad(logarithm=False))
def softmax_grad(gy: Array, y: Array) -> Array:
    """y·(gy - Σ gy·y) over the last axis: gy, y (…,K) -> gx (…,K)."""
    return y * (gy - long_sum(gy * y, -1, keepdims=True))


@primitive(_softmax(logarithm=True))
def log_softmax(x: Array) -> Array:
    """x - log Σ exp x over the last axis: x (…,K) -> y (…,K)."""
    return log_normalised(x)


@primitive(_softmax_grad(logarithm=True))
def log_softmax_grad(gy: Array, y: Array) -> Array:
    """gy - e^y·Σ gy over the last axis: gy, y (…,K) -> gx (…,K)."""
    return gy - np.exp(y) * long_sum(gy, -1, keepdims=True)


def _one_hot(labels: Array, like: Array) -> Array:
    """labels (N,) integers -> (N,K) of `like`'s shape and dtype, 1 at the label."""
    classes = np.cumsum(np.ones_like(labels, shape=like.shape[1:]), axis=0) - 1
    return (classes == np.reshape(labels, (-1, 1))).astype(like.dtype)


def _targets(dice: Dice, rows: int, classes: int) -> np.ndarray:
    if dice.chance(0.4):
        made = np.abs(dice.array(rows, classes))
        return made if dice.chance(0.5) else made / np.maximum(made.sum(axis=1, keepdims=True), 1)
    kind = dice.one(np.uint8, np.int32, np.int64, np.int16)
    return dice.integers(0, min(classes, 256), (rows,), kind)


def _cross_entropy(dice: Dice) -> Case:
    shape = _rows(dice)
    rows, classes = math.prod(shape[:-1]), shape[-1]
    return Case(
        [dice.array(rows, classes), _targets(dice, rows, classes)],
        length=classes,
        scale=math.sqrt(classes) * 8,
    )


@primitive(
    Declaration(
        _cross_entropy,
        ROWS,
        lambda n, c: call(
            [normal(n, c), integers(c, n)],
            (n,),
            (n, c),
            length=min(c, 200),
            scales=(1.0, 4 / c),
        ),
        usual=CLASSES,
    )
)
def softmax_cross_entropy(logits: Array, targets: Array) -> tuple[Array, Array]:
    """-Σ t·log softmax(logits) per example, and the softmax for the gradient.

    logits (N,K) float; targets (N,) integer labels in 0 … K-1, or (N,K) floats of logits' dtype
    -> loss (N,), probabilities (N,K). Goodfellow et al., "Deep Learning", 6.2.2.3.
    """
    log_probabilities = log_normalised(logits)
    if targets.ndim == 1:
        chosen = np.take_along_axis(log_probabilities, np.reshape(targets, (-1, 1)), axis=1)
        loss = -np.reshape(chosen, (-1,))
    else:
        loss = -long_sum(targets * log_probabilities, 1)
    return loss, np.exp(log_probabilities)


def _cross_entropy_grad(dice: Dice) -> Case:
    shape = _rows(dice)
    rows, classes = math.prod(shape[:-1]), shape[-1]
    probabilities = np.abs(dice.array(rows, classes)) / dice.dtype(classes)
    return Case(
        [dice.array(rows), probabilities, _targets(dice, rows, classes)],
        length=classes,
        scale=8.0,
    )


@primitive(
    Declaration(
        _cross_entropy_grad,
        ROWS,
        lambda n, c: call(
            [
                normal(n),
                Argument(
                    (n, c),
                    np.float32,
                    lambda random, _: normalised_exp(random.standard_normal((n, c), np.float32)),
                ),
                integers(c, n),
            ],
            (n, c),
            length=16,
            scale=4 / c,
        ),
        usual=CLASSES,
    )
)
def softmax_cross_entropy_grad(gloss: Array, probabilities: Array, targets: Array) -> Array:
    """Gradient by the logits: gloss·(p·Σt - t), which is gloss·(p - t) for targets that sum to 1.

    gloss (N,), probabilities (N,K), targets as in the forward pass -> (N,K).
    """
    if targets.ndim == 1:
        difference = probabilities - _one_hot(targets, probabilities)
    else:
        difference = probabilities * long_sum(targets, 1, keepdims=True) - targets
    return np.reshape(gloss, (-1, 1)) * difference


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


@primitive(
    Declaration(
        _squared_error,
        ROWS,
        lambda n, c: call([normal(n, c), normal(n, c)], (n,), length=min(c, 200)),
        usual=CLASSES,
    )
)
def squared_error(y: Array, t: Array) -> Array:
    """Mean of (y - t)² over all axes but the first: y, t (N,…) -> (N,)."""
    return long_mean(np.square(y - t), tuple(range(1, y.ndim)))


def _squared_error_grad(dice: Dice) -> Case:
    shape = _examples(dice)
    return Case([dice.array(shape[0]), dice.array(*shape), dice.array(*shape)], scale=4.0)


@primitive(
    Declaration(
        _squared_error_grad,
        ROWS,
        lambda n, c: call([normal(n), normal(n, c), normal(n, c)], (n, c), length=8, scale=4 / c),
        usual=CLASSES,
    )
)
def squared_error_grad(gloss: Array, y: Array, t: Array) -> Array:
    """Gradient by y: gloss·2·(y - t)/M, M values an example -> shape of y; by t its negative."""
    per_example = np.reshape(gloss, (-1,) + (1,) * (y.ndim - 1))
    return per_example * (2 / max(math.prod(y.shape[1:]), 1)) * (y - t)
