"""Local response normalisation, forward and backward in one pass over memory each.

Some pixels at a time are spread into a buffer with gaps of zeros between the groups,

    [0 0 | c0 c1 … | 0 0][0 0 | c0 c1 … | 0 0] …       size - 1 zeros a group

so that a sum over neighbours is the same sum over `size` places everywhere: one long vector loop.
The power -0.75 is 1/(√d·√√d), three vector operations instead of a call of pow for each value.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cpu.runtime.common import Array, flat, is_float
from gpukit.backends.cpu.runtime.jit import at, jit
from gpukit.backends.cpu.runtime.memory import empty
from gpukit.backends.cpu.runtime.threads import cuts, parallel_for
from gpukit.primitives.normalisation import Response

# Values in one buffer: a few buffers stay in L1.
_BUFFER = 2048
_TASK_SIZE = 50_000
_MOST_TASKS = 32


@jit
def _window_sums(values, sums, size, length):  # type: ignore[no-untyped-def]
    """sums[i] = Σ values[i : i + size] for i below length."""
    if size == 5:
        for i in range(length):
            a = values[at(i)] + values[at(i + 1)]
            b = values[at(i + 2)] + values[at(i + 3)]
            sums[at(i)] = a + b + values[at(i + 4)]
        return
    for i in range(length):
        sums[at(i)] = values[at(i)]
    for j in range(1, size):
        for i in range(length):
            sums[at(i)] += values[at(i + j)]


@jit
def _power(d, power, beta, length):  # type: ignore[no-untyped-def]
    """power = d^-beta; 0.75, which everybody uses, without pow."""
    if beta == 0.75:
        for i in range(length):
            root = np.sqrt(d[at(i)])
            power[at(i)] = 1 / (root * np.sqrt(root))
    else:
        for i in range(length):
            power[at(i)] = d[at(i)] ** -beta


@jit
def _forward(x, y, shape, k, scale, beta, first, last):  # type: ignore[no-untyped-def]
    """Pixels first … last; shape: channels, groups, size; scale is alpha/size."""
    channels, groups, size = shape
    depth = channels // groups
    stride = depth + size - 1
    before = size // 2
    block = max(_BUFFER // (groups * stride), 1)
    squares = np.zeros(block * groups * stride + size, x.dtype)
    d = np.zeros(block * groups * stride, x.dtype)
    power = np.zeros(block * groups * stride, x.dtype)
    for pixel in range(first, last, block):
        runs = min(block, last - pixel) * groups
        start = pixel * channels
        for run in range(runs):
            place = run * stride + before
            for c in range(depth):
                v = x[at(start + run * depth + c)]
                squares[at(place + c)] = v * v
        _window_sums(squares, d, size, runs * stride)
        for i in range(runs * stride):
            d[at(i)] = k + scale * d[at(i)]
        _power(d, power, beta, runs * stride)
        for run in range(runs):
            for c in range(depth):
                i = start + run * depth + c
                y[at(i)] = x[at(i)] * power[at(run * stride + c)]


@jit
def _backward(gy, x, gx, shape, k, scale, beta, first, last):  # type: ignore[no-untyped-def]
    """gx = gy·d^-beta - 2·scale·beta·x·Σ' gy·x·d^(-beta-1), Σ' over the mirrored neighbourhood."""
    channels, groups, size = shape
    depth = channels // groups
    stride = depth + size - 1
    before, after = size // 2, (size - 1) // 2
    block = max(_BUFFER // (groups * stride), 1)
    squares = np.zeros(block * groups * stride + size, x.dtype)
    through = np.zeros(block * groups * stride + size, x.dtype)
    d = np.zeros(block * groups * stride, x.dtype)
    power = np.zeros(block * groups * stride, x.dtype)
    factor = 2 * scale * beta
    for pixel in range(first, last, block):
        runs = min(block, last - pixel) * groups
        start = pixel * channels
        for run in range(runs):
            place = run * stride + before
            for c in range(depth):
                v = x[at(start + run * depth + c)]
                squares[at(place + c)] = v * v
        _window_sums(squares, d, size, runs * stride)
        for i in range(runs * stride):
            d[at(i)] = k + scale * d[at(i)]
        _power(d, power, beta, runs * stride)
        for run in range(runs):
            place = run * stride
            for c in range(depth):
                i = start + run * depth + c
                v = gy[at(i)] * x[at(i)] * power[at(place + c)] / d[at(place + c)]
                through[at(place + after + c)] = v
        _window_sums(through, d, size, runs * stride)
        for run in range(runs):
            place = run * stride
            for c in range(depth):
                i = start + run * depth + c
                v = gy[at(i)] * power[at(place + c)] - factor * x[at(i)] * d[at(place + c)]
                gx[at(i)] = v


def _supports(x: Array, *_: Any, **__: Any) -> bool:
    return is_float(x) and x.size > 0 and all(a.dtype == x.dtype for a in _)


def _tasks(x: Array) -> list[tuple[int, int]]:
    pixels = x.size // x.shape[-1]
    return cuts(pixels, min(pixels, max(x.size // _TASK_SIZE, 1), _MOST_TASKS))


@p.lrn.on("cpu", name="numba", supports=_supports)
def _(x: Array, *, response: Response) -> Array:
    y = empty(x.shape, x.dtype)
    shape, tasks = (x.shape[-1], response.groups, response.size), _tasks(x)
    numbers = [x.dtype.type(v) for v in response.numbers]
    source, target = flat(x), y.reshape(-1)
    parallel_for(len(tasks), lambda i: _forward(source, target, shape, *numbers, *tasks[i]))
    return y


@p.lrn_grad.on("cpu", name="numba", supports=_supports)
def _(gy: Array, x: Array, *, response: Response) -> Array:
    gx = empty(x.shape, x.dtype)
    shape, tasks = (x.shape[-1], response.groups, response.size), _tasks(x)
    numbers = [x.dtype.type(v) for v in response.numbers]
    gradient, source, target = flat(gy), flat(x), gx.reshape(-1)
    parallel_for(
        len(tasks), lambda i: _backward(gradient, source, target, shape, *numbers, *tasks[i])
    )
    return gx
