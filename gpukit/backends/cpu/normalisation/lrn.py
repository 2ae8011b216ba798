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
from gpukit.backends.cpu.runtime.common import Array, filled_floats, flat
from gpukit.backends.cpu.runtime.jit import at, jit
from gpukit.backends.cpu.runtime.memory import empty
from gpukit.backends.cpu.runtime.threads import for_ranges, tasks_of
from gpukit.primitives.normalisation import Response

# Values in one buffer: a few buffers stay in L1.
_BUFFER = 2048
_TASK_SIZE = 50_000


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
def _denominators(x, start, squares, d, power, shape, numbers, runs):  # type: ignore[no-untyped-def]
    """d = k + scale·Σ x² of `runs` groups from x[start] on, power = d^-beta; both with gaps."""
    channels, groups, size = shape
    k, scale, beta = numbers
    depth = channels // groups
    stride = depth + size - 1
    for run in range(runs):
        place = run * stride + size // 2
        for c in range(depth):
            v = x[at(start + run * depth + c)]
            squares[at(place + c)] = v * v
    _window_sums(squares, d, size, runs * stride)
    for i in range(runs * stride):
        d[at(i)] = k + scale * d[at(i)]
    _power(d, power, beta, runs * stride)


@jit
def _forward(x, y, shape, numbers, first, last):  # type: ignore[no-untyped-def]
    """Pixels first … last; shape: channels, groups, size; numbers: k, alpha/size, beta."""
    channels, groups, size = shape
    depth = channels // groups
    stride = depth + size - 1
    block = max(_BUFFER // (groups * stride), 1)
    squares = np.zeros(block * groups * stride + size, x.dtype)
    d = np.zeros(block * groups * stride, x.dtype)
    power = np.zeros(block * groups * stride, x.dtype)
    for pixel in range(first, last, block):
        runs = min(block, last - pixel) * groups
        start = pixel * channels
        _denominators(x, start, squares, d, power, shape, numbers, runs)
        for run in range(runs):
            for c in range(depth):
                i = start + run * depth + c
                y[at(i)] = x[at(i)] * power[at(run * stride + c)]


@jit
def _backward(gy, x, gx, shape, numbers, first, last):  # type: ignore[no-untyped-def]
    """gx = gy·d^-beta - 2·scale·beta·x·Σ' gy·x·d^(-beta-1), Σ' over the mirrored neighbourhood."""
    channels, groups, size = shape
    depth = channels // groups
    stride = depth + size - 1
    after = (size - 1) // 2
    block = max(_BUFFER // (groups * stride), 1)
    squares = np.zeros(block * groups * stride + size, x.dtype)
    through = np.zeros(block * groups * stride + size, x.dtype)
    d = np.zeros(block * groups * stride, x.dtype)
    power = np.zeros(block * groups * stride, x.dtype)
    _, scale, beta = numbers
    factor = 2 * scale * beta
    for pixel in range(first, last, block):
        runs = min(block, last - pixel) * groups
        start = pixel * channels
        _denominators(x, start, squares, d, power, shape, numbers, runs)
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


def _run(loop: Any, response: Response, *inputs: Array) -> Array:
    """A new array by `loop` over pixels of the inputs (…,C), all of one shape."""
    x = inputs[0]
    y = empty(x.shape, x.dtype)
    shape = (x.shape[-1], response.groups, response.size)
    numbers = tuple(x.dtype.type(v) for v in response.numbers)
    tasks = tasks_of(x.size // x.shape[-1], x.size, _TASK_SIZE)
    for_ranges(tasks, loop, *map(flat, inputs), y.reshape(-1), shape, numbers)
    return y


@p.lrn.on("cpu", name="numba", supports=filled_floats)
def _(x: Array, *, response: Response) -> Array:
    return _run(_forward, response, x)


@p.lrn_grad.on("cpu", name="numba", supports=filled_floats)
def _(gy: Array, x: Array, *, response: Response) -> Array:
    return _run(_backward, response, gy, x)
