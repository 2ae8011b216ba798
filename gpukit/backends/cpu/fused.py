"""Bias, ReLU, response normalisation and max-pooling in one pass over a convolution's output.

Unfused, 55×55×96 values are written and read four times on their way to 27×27×96. Here a few
input rows are normalised into a buffer in L2 and pooled from there; the gradient recomputes from
the convolution's output, row by row. Rows lie in the buffers with zeros after each group,

    [c0 c1 … 0 0][c0 c1 … 0 0] …        size // 2 zeros a group

so that a sum over neighbours is the same sum of `size` places everywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cpu.pool.maximum import pool_plan, unit_tasks
from gpukit.backends.cpu.runtime.common import Array, flat, is_float
from gpukit.backends.cpu.runtime.jit import at, jit
from gpukit.backends.cpu.runtime.memory import empty
from gpukit.backends.cpu.runtime.threads import for_ranges, parallel_for
from gpukit.backends.cpu.runtime.vectors import VECTOR, collect_vector, copy_run, window_3x3_vector
from gpukit.primitives.normalisation import Response
from gpukit.primitives.windows import Window

# Values of a row that are normalised together: two buffers of them stay in L1.
_BLOCK = 2048


@jit
def _spread(x, start, bias, relu, a, shape, pixels):  # type: ignore[no-untyped-def]
    """a = relu(x + bias) of some pixels from x[start] on, with gaps."""
    channels, groups, size = shape
    depth = channels // groups
    stride = depth + size // 2
    biased = len(bias) > 0
    for run in range(pixels * groups):
        source = start + run * depth
        place = size + run * stride
        first = run % groups * depth
        if biased and relu:
            for c in range(depth):
                v = x[at(source + c)] + bias[at(first + c)]
                a[at(place + c)] = 0 if v < 0 else v
        elif biased:
            for c in range(depth):
                a[at(place + c)] = x[at(source + c)] + bias[at(first + c)]
        elif relu:
            for c in range(depth):
                v = x[at(source + c)]
                a[at(place + c)] = 0 if v < 0 else v
        else:
            for c in range(depth):
                a[at(place + c)] = x[at(source + c)]


@jit
def _scales(a, d, power, size, k, scale, beta, length):  # type: ignore[no-untyped-def]
    """d = k + scale·Σ a² over the neighbours, power = d^-beta; all begin `size` places in."""
    start = size - size // 2
    if size == 5 and beta == 0.75:  # everybody's: one loop, and no pow
        for i in range(length):
            v0, v1, v2 = a[at(start + i)], a[at(start + i + 1)], a[at(start + i + 2)]
            v3, v4 = a[at(start + i + 3)], a[at(start + i + 4)]
            total = k + scale * ((v0 * v0 + v1 * v1) + v2 * v2 + (v3 * v3 + v4 * v4))
            root = np.sqrt(total)
            d[at(size + i)] = total
            power[at(size + i)] = 1 / (root * np.sqrt(root))
        return
    for i in range(length):
        d[at(size + i)] = 0
    for j in range(size):
        for i in range(length):
            v = a[at(start + i + j)]
            d[at(size + i)] += v * v
    for i in range(size, size + length):
        total = k + scale * d[at(i)]
        d[at(i)] = total
        power[at(i)] = total**-beta


@jit
def _neighbours(values, sums, size, length):  # type: ignore[no-untyped-def]
    """sums[i] = Σ of `size` values around i, mirrored; both begin `size` places in."""
    start = size - (size - 1) // 2
    if size == 5:
        for i in range(length):
            low = values[at(start + i)] + values[at(start + i + 1)]
            high = values[at(start + i + 3)] + values[at(start + i + 4)]
            sums[at(size + i)] = low + values[at(start + i + 2)] + high
        return
    for i in range(length):
        sums[at(size + i)] = values[at(start + i)]
    for j in range(1, size):
        for i in range(length):
            sums[at(size + i)] += values[at(start + i + j)]


@jit
def _forward(x, bias, relu, y, index, plan, shape, numbers, first_line, last_line):  # type: ignore[no-untyped-def]
    """Lines first_line … last_line (a row of windows) of y and index."""
    pool = plan[0]
    height, width, channels = pool.height, pool.width, pool.channels
    p_count, q_count, rows, columns = pool.p_count, pool.q_count, pool.rows, pool.columns
    step_h, step_w, top, left = pool.step_h, pool.step_w, pool.top, pool.left
    _, groups, size = shape
    k, scale, beta = numbers
    depth = channels // groups
    stride = depth + size // 2
    pixel_step = groups * stride
    row_step = width * pixel_step
    block = max(_BLOCK // pixel_step, 1)
    buffer = block * pixel_step + 2 * size
    a, d, power = np.zeros(buffer, x.dtype), np.zeros(buffer, x.dtype), np.zeros(buffer, x.dtype)
    # Row r of `normal` is image row `top_row + r`; rows up to `ready` are filled.
    normal = np.zeros(rows * row_step + VECTOR, x.dtype)
    top_row, ready = 0, 0
    whole = rows == 3 and columns == 3
    for line in range(first_line, last_line):
        image, place = divmod(line, p_count)
        h = place * step_h - top
        above, below = max(h, 0), min(h + rows, height)
        if line == first_line or place == 0 or above >= ready:
            ready = above
        elif above > top_row:
            kept = (ready - above) * row_step
            shift = (above - top_row) * row_step
            for i in range(kept):
                normal[at(i)] = normal[at(shift + i)]
        top_row = above
        for row in range(ready, below):
            out = (row - top_row) * row_step
            for w in range(0, width, block):
                pixels = min(block, width - w)
                length = pixels * pixel_step
                start = ((image * height + row) * width + w) * channels
                _spread(x, start, bias, relu, a, shape, pixels)
                _scales(a, d, power, size, k, scale, beta, length)
                target = out + w * pixel_step
                for i in range(length):
                    normal[at(target + i)] = a[at(size + i)] * power[at(size + i)]
        ready = below
        out = line * q_count * channels
        for q in range(q_count):
            w = q * step_w - left
            begin, end = max(w, 0), min(w + columns, width)
            cell = (above - h) * columns + begin - w
            for group in range(groups):
                source = begin * pixel_step + group * stride
                done = 0
                if whole and below - above == 3 and end - begin == 3:
                    while done + VECTOR <= depth:
                        window_3x3_vector(
                            y, out + done, index, normal, source + done, row_step, pixel_step
                        )
                        done += VECTOR
                for c in range(done, depth):
                    best, which = normal[at(source + c)], cell
                    for r in range(below - above):
                        for s in range(end - begin):
                            v = normal[at(source + r * row_step + s * pixel_step + c)]
                            if (not v <= best) and best == best:
                                best, which = v, cell + r * columns + s
                    y[at(out + c)] = best
                    index[at(out + c)] = which
                out += depth


@jit
def _collect(gy, index, g, plan, shape, image, row):  # type: ignore[no-untyped-def]
    """g, with gaps = what the pooling's gradient gives to one row of an image."""
    pool = plan[0]
    width, channels = pool.width, pool.channels
    p_count, q_count, rows, columns = pool.p_count, pool.q_count, pool.rows, pool.columns
    step_h, step_w, top, left = pool.step_h, pool.step_w, pool.top, pool.left
    _, groups, size = shape
    depth = channels // groups
    stride = depth + size // 2
    g[:] = 0
    first = max((row + top - rows) // step_h + 1, 0)
    last = min((row + top) // step_h + 1, p_count)
    for line in range(first, last):
        r = row + top - line * step_h
        for q in range(q_count):
            out = ((image * p_count + line) * q_count + q) * channels
            for s in range(max(left - q * step_w, 0), min(columns, width + left - q * step_w)):
                place = size + (q * step_w - left + s) * groups * stride
                cell = r * columns + s
                for group in range(groups):
                    source = out + group * depth
                    target = place + group * stride
                    done = 0
                    while done + VECTOR <= depth:
                        collect_vector(g, target + done, gy, index, source + done, cell)
                        done += VECTOR
                    for c in range(done, depth):
                        if index[at(source + c)] == cell:
                            g[at(target + c)] += gy[at(source + c)]


@jit
def _backward(gy, x, bias, relu, index, gx, gbias, plan, shape, numbers, first_line, last_line):  # type: ignore[no-untyped-def]
    """Rows first_line … last_line of gx, and gbias = their sums (float64).

    gx = g·d^-beta - 2·scale·beta·a·Σ' g·a·d^(-beta-1) where a > 0 (or without ReLU).
    """
    pool = plan[0]
    height, width, channels = pool.height, pool.width, pool.channels
    _, groups, size = shape
    k, scale, beta = numbers
    depth = channels // groups
    stride = depth + size // 2
    pixel_step = groups * stride
    block = max(_BLOCK // pixel_step, 1)
    buffer = block * pixel_step + 2 * size
    a, d, power = np.zeros(buffer, x.dtype), np.zeros(buffer, x.dtype), np.zeros(buffer, x.dtype)
    through, sums = np.zeros(buffer, x.dtype), np.zeros(buffer, x.dtype)
    g = np.zeros(width * pixel_step + 2 * size, x.dtype)
    factor = 2 * scale * beta
    for i in range(len(gbias)):
        gbias[at(i)] = 0
    for line in range(first_line, last_line):
        image, row = divmod(line, height)
        _collect(gy, index, g, plan, shape, image, row)
        for w in range(0, width, block):
            pixels = min(block, width - w)
            length = pixels * pixel_step
            start = (line * width + w) * channels
            at_g = w * pixel_step
            _spread(x, start, bias, relu, a, shape, pixels)
            _scales(a, d, power, size, k, scale, beta, length)
            for i in range(size, size + length):
                through[at(i)] = g[at(at_g + i)] * a[at(i)] * power[at(i)] / d[at(i)]
            _neighbours(through, sums, size, length)
            for i in range(size, size + length):
                power[at(i)] = g[at(at_g + i)] * power[at(i)] - factor * a[at(i)] * sums[at(i)]
            if relu:
                for i in range(size, size + length):
                    v = power[at(i)]
                    power[at(i)] = v if a[at(i)] > 0 else 0
            for run in range(pixels * groups):
                copy_run(gx, start + run * depth, power, size + run * stride, depth)
            if len(gbias) > 0:
                # In float32 over a few pixels, from there on in float64.
                through[:pixel_step] = 0
                for pixel in range(pixels):
                    place = size + pixel * pixel_step
                    for i in range(pixel_step):
                        through[at(i)] += power[at(place + i)]
                for group in range(groups):
                    for c in range(depth):
                        gbias[at(group * depth + c)] += through[at(group * stride + c)]
                through[:] = 0


def _supports(x: Array, bias: Array | None, *, window: Window, **_: Any) -> bool:
    return (
        is_float(x)
        and x.size > 0
        and (bias is None or bias.dtype == x.dtype)
        and window.cells <= 256
    )


def _grad_supports(gy: Array, x: Array, bias: Array | None, _: Array, **settings: Any) -> bool:
    return gy.dtype == x.dtype and _supports(x, bias, **settings)


def _read(
    x: Array, bias: Array | None, relu: bool, response: Response, window: Window
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """What both loops read: x, bias (perhaps empty) and relu; plan, shape and numbers."""
    shift = np.empty(0, x.dtype) if bias is None else flat(bias)
    axes = (x.shape[3], response.groups, response.size)
    numbers = tuple(x.dtype.type(v) for v in response.numbers)
    return (flat(x), shift, bool(relu)), (pool_plan(x.shape, window), axes, numbers)


@p.bias_relu_lrn_pool.on("cpu", name="numba", supports=_supports)
def _(
    x: Array, bias: Array | None, *, relu: bool, response: Response, window: Window
) -> tuple[Array, Array]:
    shape = window.pooled(x.shape)
    y, index = empty(shape, x.dtype), empty(shape, np.dtype(np.uint8))
    if y.size == 0:
        return y, index
    source, numbers = _read(x, bias, relu, response, window)
    tasks = unit_tasks(shape[0] * shape[1], x.size)
    for_ranges(tasks, _forward, *source, y.reshape(-1), index.reshape(-1), *numbers)
    return y, index


@p.bias_relu_lrn_pool_grad.on("cpu", name="numba", supports=_grad_supports)
def _(
    gy: Array,
    x: Array,
    bias: Array | None,
    index: Array,
    *,
    relu: bool,
    response: Response,
    window: Window,
) -> tuple[Array, Array | None]:
    gx = empty(x.shape, x.dtype)
    source, numbers = _read(x, bias, relu, response, window)
    gradient, which, target = flat(gy), flat(index), gx.reshape(-1)
    tasks = unit_tasks(x.shape[0] * x.shape[1], x.size)
    sums = np.empty((len(tasks), 0 if bias is None else x.shape[3]))
    parallel_for(
        len(tasks),
        lambda i: _backward(gradient, *source, which, target, sums[i], *numbers, *tasks[i]),
    )
    return gx, None if bias is None else sums.sum(axis=0).astype(x.dtype)
