"""Activations: over whole arrays in cache-sized pieces, and fused into convolution and dense."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cpu.runtime.common import Array, flat, is_float, same_floats
from gpukit.backends.cpu.runtime.jit import at, jit
from gpukit.backends.cpu.runtime.memory import empty
from gpukit.backends.cpu.runtime.threads import for_ranges, tasks_of

# Rows shorter than a few vectors are handled several at a time.
_PATTERN = 128


def bias_pattern(b: Array | None, dtype: np.dtype[Any], most: int = _PATTERN) -> Array:
    """Bias for `finish`: (K,) up to `most` times, so that loops are long; empty for None."""
    if b is None:
        return np.empty(0, dtype)
    values = flat(b)
    if b.size >= _PATTERN // 2 or b.size == 0:
        return values
    return np.tile(values, min(-(-_PATTERN // b.size), most))


@jit
def finish(y, rows, columns, stride, bias, activation):  # type: ignore[no-untyped-def]
    """y = activation(y + bias) in place, for `rows` rows of `columns` values `stride` apart.

    `bias` comes from `bias_pattern`; if it is empty nothing is added. Activation: 0 none, 1 relu,
    2 sigmoid, 3 tanh.
    """
    if stride == columns:
        length, runs = rows * columns, 1
    else:
        length, runs = columns, rows
    for run in range(runs):
        start = run * stride
        end = start + length
        period = len(bias)
        if period > 0:
            for base in range(start, end, period):
                if activation == 1:
                    for i in range(min(period, end - base)):
                        v = y[at(base + i)] + bias[at(i)]
                        y[at(base + i)] = 0 if v < 0 else v
                else:
                    for i in range(min(period, end - base)):
                        y[at(base + i)] += bias[at(i)]
        elif activation == 1:
            for i in range(start, end):
                v = y[at(i)]
                y[at(i)] = 0 if v < 0 else v
        if activation == 2:
            for i in range(start, end):
                v = y[at(i)]
                small = math.exp(-abs(v))
                y[at(i)] = (small if v < 0 else 1) / (1 + small)
        elif activation == 3:
            for i in range(start, end):
                y[at(i)] = math.tanh(y[at(i)])


@jit
def _relu(x, y, first, last):  # type: ignore[no-untyped-def]
    for i in range(first, last):
        v = x[at(i)]
        y[at(i)] = 0 if v < 0 else v


@jit
def _relu_grad(gy, y, gx, first, last):  # type: ignore[no-untyped-def]
    for i in range(first, last):
        g = gy[at(i)]  # read in any case: a read under a condition would keep the loop scalar
        gx[at(i)] = g if y[at(i)] > 0 else 0


@p.relu.on("cpu", name="numba", supports=is_float)
def _(x: Array) -> Array:
    y = empty(x.shape, x.dtype)
    for_ranges(tasks_of(x.size, x.size), _relu, flat(x), y.reshape(-1))
    return y


@p.relu_grad.on("cpu", name="numba", supports=same_floats)
def _(gy: Array, y: Array) -> Array:
    gx = empty(gy.shape, gy.dtype)
    for_ranges(tasks_of(gy.size, gy.size), _relu_grad, flat(gy), flat(y), gx.reshape(-1))
    return gx
