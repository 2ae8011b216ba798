"""Batch normalisation and local response normalisation, with gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gpukit.dispatch.declaration import Argument, Declaration, Problem
from gpukit.dispatch.dice import Case, Dice
from gpukit.dispatch.primitive import primitive
from gpukit.primitives.accumulate import Array, long_mean, long_sum
from gpukit.primitives.calls import MAP, USUAL_MAP, between, call, normal

_EPSILON = {"epsilon": 1e-3}


def _columns(dice: Dice) -> tuple[int, ...]:
    """Rows of channels: few or none, or enough for several blocks and ranges."""
    channels = dice.one(1, 2, 3, 5, 8, 31, 33, dice.between(1, 100))
    if dice.chance(0.2):
        return (dice.between(200, 3000), dice.one(1, 3, 33))
    return (dice.one(0, 1, 2, 3), *dice.one((), (5, 7), (1, 1), (13,)), channels)


def _vectors(dice: Dice, channels: int, *positive: bool) -> list[np.ndarray]:
    return [dice.array(channels, positive=p) for p in positive]


def _batch_norm(dice: Dice) -> Case:
    x = dice.array(*_columns(dice))
    # Now and then far from 0: what sums of squares lose their digits on.
    x = x + x.dtype.type(dice.one(0, 0, 3, -20))
    vectors = _vectors(dice, x.shape[-1], False, False)
    # (x - mean)/σ carries the roundings of x, as large as that of 23, 1/σ ≤ 32 times.
    return Case([x, *vectors], {"epsilon": dice.one(1e-3, 0.1)}, length=16, scale=16.0)


@primitive(
    Declaration(
        _batch_norm,
        MAP,
        lambda *shape: call(
            [normal(*shape), *[normal(shape[-1])] * 2],
            shape,
            *[shape[-1:]] * 2,
            settings=_EPSILON,
            length=16,
            scale=4.0,
        ),
        usual=USUAL_MAP,
        layers="normalised_maps",
    )
)
def batch_norm(
    x: Array, gamma: Array, beta: Array, *, epsilon: float
) -> tuple[Array, Array, Array]:
    """y = gamma·(x - mean)/√(variance + epsilon) + beta, statistics over all axes but the last.

    x (…,C), gamma and beta (C,) -> y (…,C), mean (C,), variance (C,): biased, two passes,
    accumulated in float64. An empty batch has mean and variance 0.
    Ioffe and Szegedy, 2015, algorithm 1.
    """
    axes = tuple(range(x.ndim - 1))
    mean = long_mean(x, axes)
    variance = long_mean(np.square(x - mean), axes)
    return _normalise(x, gamma, beta, mean, variance, epsilon), mean, variance


def _batch_norm_inference(dice: Dice) -> Case:
    x = dice.array(*_columns(dice))
    vectors = _vectors(dice, x.shape[-1], False, False, False, True)
    return Case([x, *vectors], {"epsilon": dice.one(1e-3, 0.1)}, length=8, scale=4.0)


@primitive(
    Declaration(
        _batch_norm_inference,
        MAP,
        lambda *shape: call(
            [normal(*shape), *[normal(shape[-1])] * 3, between(0.5, 2)(shape[-1])],
            shape,
            settings=_EPSILON,
            length=16,
            scale=4.0,
        ),
        usual=USUAL_MAP,
        layers="normalised_maps",
    )
)
def batch_norm_inference(
    x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, *, epsilon: float
) -> Array:
    """The same with given statistics: x (…,C), the others (C,) -> y (…,C)."""
    return _normalise(x, gamma, beta, mean, variance, epsilon)


def _normalise(
    x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, epsilon: float
) -> Array:
    return (x - mean) * (gamma / np.sqrt(variance + float(epsilon))) + beta


def _batch_norm_grad(dice: Dice) -> Case:
    shape = _columns(dice)
    arrays = [dice.array(*shape), dice.array(*shape)]
    vectors = _vectors(dice, shape[-1], False, False, True)
    count = max(math.prod(shape[:-1]), 1)
    return Case(
        [*arrays, *vectors],
        {"epsilon": dice.one(1e-3, 0.1)},
        length=min(count, 100),  # blocked sums: no longer one runs on
        scale=4 * math.sqrt(count),
    )


def _batch_norm_grad_call(n: int, h: int, w: int, c: int) -> Problem:
    def statistic(of: Callable[[Array], Array]) -> Argument:
        return Argument((c,), np.float32, lambda _, before: of(before[1]))

    sums = 4 * math.sqrt(n * h * w)  # of so many numbers of random sign
    return call(
        [
            normal(n, h, w, c),
            normal(n, h, w, c),
            normal(c),
            statistic(lambda x: long_mean(x, (0, 1, 2))),
            statistic(lambda x: long_mean(np.square(x - long_mean(x, (0, 1, 2))), (0, 1, 2))),
        ],
        (n, h, w, c),
        (c,),
        (c,),
        settings=_EPSILON,
        length=min(n * h * w, 100),
        scales=(4.0, sums, sums),
    )


@primitive(
    Declaration(_batch_norm_grad, MAP, _batch_norm_grad_call, USUAL_MAP, layers="normalised_maps")
)
def batch_norm_grad(
    gy: Array, x: Array, gamma: Array, mean: Array, variance: Array, *, epsilon: float
) -> tuple[Array, Array, Array]:
    """Gradients of batch_norm, the statistics' dependence on x included -> gx, ggamma, gbeta.

    gy, x (…,C), the others (C,). With σ = √(variance + epsilon), z = (x - mean)/σ, M = N·H·W:
        gbeta = Σ gy    ggamma = Σ gy·z    gx = gamma/σ·(gy - gbeta/M - z·ggamma/M)
    """
    axes = tuple(range(x.ndim - 1))
    count = max(math.prod(x.shape[:-1]), 1)
    inverse = 1 / np.sqrt(variance + float(epsilon))
    z = (x - mean) * inverse
    gbeta, ggamma = long_sum(gy, axes), long_sum(gy * z, axes)
    gx = (gamma * inverse) * (gy - gbeta / count - z * (ggamma / count))
    return gx, ggamma, gbeta


class Response(NamedTuple):
    """The settings of local response normalisation: `size` neighbours, within each of `groups`."""

    size: int
    alpha: float
    beta: float
    k: float
    groups: int = 1

    @property
    def numbers(self) -> tuple[float, float, float]:
        """k, alpha for one neighbour, beta."""
        return float(self.k), float(self.alpha) / self.size, float(self.beta)

    @property
    def reach(self) -> tuple[int, int]:
        """Neighbours before and after a channel; fewer at the ends of a group."""
        return self.size // 2, (self.size - 1) // 2


def _neighbour_sum(x: Array, before: int, after: int, groups: int) -> Array:
    """Sum over channels c-before … c+after of the same group: x (…,C) -> (…,C)."""
    channels = x.shape[-1] // groups
    grouped = np.reshape(x, (*x.shape[:-1], groups, channels))
    padded = np.pad(grouped, ((0, 0),) * (grouped.ndim - 1) + ((before, after),))
    total = padded[..., :channels]
    for offset in range(1, before + after + 1):
        total = total + padded[..., offset : offset + channels]
    return np.reshape(total, x.shape)


# Krizhevsky et al., 2012, section 3.3; in two columns
RESPONSE = Response(size=5, alpha=5e-4, beta=0.75, k=2.0)
COLUMNS = {"response": RESPONSE._replace(groups=2)}
USUAL_RESPONSE = (8, 27, 27, 256)


def random_response(dice: Dice) -> tuple[int, Response]:
    """Channels and settings of lrn: half of them such as AlexNet has."""
    groups = dice.one(1, 1, 2, 3)
    alexnet = dice.chance(0.5)
    size = 5 if alexnet else dice.one(1, 2, 3, 4, 5, 6, 9, 20)
    length = dice.one(4, 8, 12, 48, 128) if alexnet else dice.one(1, 2, 3, 5, 7, 8, 20)
    return groups * length, Response(
        size=size,
        alpha=dice.one(5e-4, 1.0, 0.5),
        beta=0.75 if alexnet or dice.chance(0.5) else dice.one(0.5, 1.0, 1.3),
        k=dice.one(1.0, 2.0),
        groups=groups,
    )


def _lrn(inputs: int) -> Declaration:
    """Of lrn, which has one input, and of its gradient, which has two."""

    def draw(dice: Dice) -> Case:
        channels, response = random_response(dice)
        pixels = dice.one((), (dice.between(1, 9),), (2, dice.between(1, 5), 3), (0, 2, 2))
        arrays = [dice.array(*pixels, channels) for _ in range(inputs)]
        scale = 8.0 if inputs > 1 else 1.0
        return Case(arrays, {"response": response}, length=inputs * response.size, scale=scale)

    return Declaration(
        draw,
        MAP,
        lambda *shape: call(
            [normal(*shape)] * inputs,
            shape,
            settings={"response": RESPONSE},
            length=16,
            by_image=tuple(range(inputs)),
        ),
        usual=USUAL_RESPONSE,
        usual_settings=COLUMNS,
        layers="responses",
    )


@primitive(_lrn(1))
def lrn(x: Array, *, response: Response) -> Array:
    """y = x / (k + alpha/size·Σ x²)^beta over `size` neighbouring channels of one group.

    x (…,C) -> y (…,C). Neighbours of c: c - size//2 … c + (size-1)//2, fewer at a group's ends.
    Krizhevsky et al., 2012, 3.3, whose alpha is not divided by size: pass size times theirs.
    """
    k, scale, beta = response.numbers
    squares = _neighbour_sum(np.square(x), *response.reach, response.groups)
    return x * (k + scale * squares) ** -beta


@primitive(_lrn(2))
def lrn_grad(gy: Array, x: Array, *, response: Response) -> Array:
    """Gradient of lrn: gy, x (…,C) -> gx (…,C).

    With d = k + alpha/size·Σ x²: gx = gy·d^-beta - 2·alpha·beta/size·x·Σ' gy·x·d^(-beta-1).
    Σ' runs over the channels whose neighbourhood holds c: c - (size-1)//2 … c + size//2.
    """
    (before, after), (k, scale, beta) = response.reach, response.numbers
    d = k + scale * _neighbour_sum(np.square(x), before, after, response.groups)
    power = d**-beta
    through_d = _neighbour_sum(gy * x * power / d, after, before, response.groups)
    return gy * power - 2 * scale * beta * x * through_d
