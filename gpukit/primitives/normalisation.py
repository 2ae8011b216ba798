"""Batch normalisation and local response normalisation, with gradients."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from gpukit.dispatch.primitive import primitive
from gpukit.primitives.accumulate import Array, long_mean, long_sum


@primitive
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


@primitive
def batch_norm_inference(
    x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, *, epsilon: float
) -> Array:
    """The same with given statistics: x (…,C), the others (C,) -> y (…,C)."""
    return _normalise(x, gamma, beta, mean, variance, epsilon)


def _normalise(
    x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, epsilon: float
) -> Array:
    return (x - mean) * (gamma / np.sqrt(variance + float(epsilon))) + beta


@primitive
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


@primitive
def lrn(x: Array, *, response: Response) -> Array:
    """y = x / (k + alpha/size·Σ x²)^beta over `size` neighbouring channels of one group.

    x (…,C) -> y (…,C). Neighbours of c: c - size//2 … c + (size-1)//2, fewer at a group's ends.
    Krizhevsky et al., 2012, 3.3, whose alpha is not divided by size: pass size times theirs.
    """
    k, scale, beta = response.numbers
    squares = _neighbour_sum(np.square(x), *response.reach, response.groups)
    return x * (k + scale * squares) ** -beta


@primitive
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
