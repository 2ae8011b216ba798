"""Batch normalisation: statistics and results in long vector loops over several pixels at once.

Channels are the fastest axis, so per-channel values repeat with period C along memory. They are
tiled to some hundred values, and loops run over whole tiles: long even where C is 16.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cpu.runtime.common import Array, filled_floats, flat
from gpukit.backends.cpu.runtime.jit import at, jit
from gpukit.backends.cpu.runtime.memory import empty
from gpukit.backends.cpu.runtime.partial_sums import column_sums
from gpukit.backends.cpu.runtime.threads import Ranges, for_ranges, parallel_for, tasks_of

_TILE = 256
_TASK_SIZE = 300_000


def _tile(values: Array, dtype: np.dtype[Any]) -> Array:
    """(C,) repeated to a tile's length, in `dtype`."""
    return np.tile(values.astype(dtype), max(_TILE // values.size, 1))


def _row_tasks(x: Array) -> Ranges:
    """Ranges of pixels, as ranges of elements."""
    channels = x.shape[-1]
    tasks = tasks_of(x.size // channels, x.size, _TASK_SIZE)
    return [(a * channels, b * channels) for a, b in tasks]


@jit
def _squares(x, mean, sums, first, last):  # type: ignore[no-untyped-def]
    """sums (tile, float64) = Σ (x - mean)² at each place of the tile."""
    tile = len(mean)
    for i in range(tile):
        sums[i] = 0
    for start in range(first, last, tile):
        for i in range(min(tile, last - start)):
            v = x[at(start + i)] - mean[at(i)]
            sums[at(i)] += v * v


@jit
def _normalise(x, mean, scale, beta, y, first, last):  # type: ignore[no-untyped-def]
    tile = len(mean)
    for start in range(first, last, tile):
        for i in range(min(tile, last - start)):
            v = (x[at(start + i)] - mean[at(i)]) * scale[at(i)] + beta[at(i)]
            y[at(start + i)] = v


@jit
def _gradient_sums(gy, x, mean, sums, products, first, last):  # type: ignore[no-untyped-def]
    """sums = Σ gy, products = Σ gy·(x - mean), at each place of the tile, float64."""
    tile = len(mean)
    for i in range(tile):
        sums[i] = 0
        products[i] = 0
    for start in range(first, last, tile):
        for i in range(min(tile, last - start)):
            g = gy[at(start + i)]
            sums[at(i)] += g
            products[at(i)] += g * (x[at(start + i)] - mean[at(i)])


@jit
def _gradient(gy, x, mean, scale, offset, slope, gx, first, last):  # type: ignore[no-untyped-def]
    """gx = scale·(gy - offset - slope·(x - mean))."""
    tile = len(mean)
    for start in range(first, last, tile):
        for i in range(min(tile, last - start)):
            v = gy[at(start + i)] - offset[at(i)] - slope[at(i)] * (x[at(start + i)] - mean[at(i)])
            gx[at(start + i)] = scale[at(i)] * v


def _fold(sums: Array, channels: int) -> Array:
    """Sums (tasks, tile) over tasks and over the repeats in a tile -> (C,)."""
    folded: Array = sums.reshape(-1, channels).sum(axis=0)
    return folded


def _apply(
    x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, epsilon: float
) -> Array:
    y = empty(x.shape, x.dtype)
    scale = gamma / np.sqrt(variance + float(epsilon))
    m, s, b = (_tile(v, x.dtype) for v in (mean, scale, beta))
    for_ranges(_row_tasks(x), _normalise, flat(x), m, s, b, y.reshape(-1))
    return y


@p.batch_norm.on("cpu", name="numba", supports=filled_floats)
def _(x: Array, gamma: Array, beta: Array, *, epsilon: float) -> tuple[Array, Array, Array]:
    channels = x.shape[-1]
    pixels = x.size // channels
    mean = (column_sums(x) / pixels).astype(x.dtype)
    source, m, tasks = flat(x), _tile(mean, x.dtype), _row_tasks(x)
    sums = np.empty((len(tasks), m.size))
    parallel_for(len(tasks), lambda i: _squares(source, m, sums[i], *tasks[i]))
    variance = (_fold(sums, channels) / pixels).astype(x.dtype)
    return _apply(x, gamma, beta, mean, variance, epsilon), mean, variance


@p.batch_norm_inference.on("cpu", name="numba", supports=filled_floats)
def _(
    x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, *, epsilon: float
) -> Array:
    return _apply(x, gamma, beta, mean, variance, epsilon)


@p.batch_norm_grad.on("cpu", name="numba", supports=filled_floats)
def _(
    gy: Array, x: Array, gamma: Array, mean: Array, variance: Array, *, epsilon: float
) -> tuple[Array, Array, Array]:
    channels = x.shape[-1]
    pixels = x.size // channels
    gradient, source, m, tasks = flat(gy), flat(x), _tile(mean, x.dtype), _row_tasks(x)
    sums = np.empty((2, len(tasks), m.size))
    parallel_for(
        len(tasks),
        lambda i: _gradient_sums(gradient, source, m, sums[0, i], sums[1, i], *tasks[i]),
    )
    inverse = 1 / np.sqrt(variance.astype(np.float64) + epsilon)
    gbeta, ggamma = _fold(sums[0], channels), _fold(sums[1], channels) * inverse
    gx = empty(x.shape, x.dtype)
    scale = _tile(gamma * inverse, x.dtype)
    offset = _tile(gbeta / pixels, x.dtype)
    slope = _tile(inverse * ggamma / pixels, x.dtype)
    for_ranges(tasks, _gradient, gradient, source, m, scale, offset, slope, gx.reshape(-1))
    return gx, ggamma.astype(x.dtype), gbeta.astype(x.dtype)
