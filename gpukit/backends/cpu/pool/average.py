"""Average pooling over windows and over whole maps."""

from __future__ import annotations

import numpy as np

from gpukit import primitives as reference
from gpukit.backends.cpu.pool.maximum import pool_plan, small_window, unit_tasks
from gpukit.backends.cpu.runtime.common import Array, flat, is_float
from gpukit.backends.cpu.runtime.jit import at, jit
from gpukit.backends.cpu.runtime.memory import empty
from gpukit.backends.cpu.runtime.threads import for_ranges
from gpukit.primitives.windows import Window


@jit
def _average(x, y, plan, first_line, last_line):  # type: ignore[no-untyped-def]
    """Lines first_line … last_line of y: the mean of the pixels that each window holds."""
    pool = plan[0]
    height, width, channels = pool.height, pool.width, pool.channels
    p_count, q_count, rows, columns = pool.p_count, pool.q_count, pool.rows, pool.columns
    step_h, step_w, top, left = pool.step_h, pool.step_w, pool.top, pool.left
    for line in range(first_line, last_line):
        image, p = divmod(line, p_count)
        h = p * step_h - top
        low, high = max(-h, 0), min(rows, height - h)
        for q in range(q_count):
            w = q * step_w - left
            near, far = max(-w, 0), min(columns, width - w)
            out = (line * q_count + q) * channels
            for c in range(channels):
                y[at(out + c)] = 0
            for r in range(low, high):
                for s in range(near, far):
                    pixel = ((image * height + h + r) * width + w + s) * channels
                    for c in range(channels):
                        y[at(out + c)] += x[at(pixel + c)]
            count = y.dtype.type(max(max(high - low, 0) * max(far - near, 0), 1))
            for c in range(channels):
                y[at(out + c)] /= count


@jit
def _share(gy, gx, plan, first_image, last_image):  # type: ignore[no-untyped-def]
    """gx of whole images: every window gives each of its pixels an equal share."""
    pool = plan[0]
    height, width, channels = pool.height, pool.width, pool.channels
    p_count, q_count, rows, columns = pool.p_count, pool.q_count, pool.rows, pool.columns
    step_h, step_w, top, left = pool.step_h, pool.step_w, pool.top, pool.left
    size = height * width * channels
    gx[first_image * size : last_image * size] = 0
    for line in range(first_image * p_count, last_image * p_count):
        image, p = divmod(line, p_count)
        h = p * step_h - top
        low, high = max(-h, 0), min(rows, height - h)
        for q in range(q_count):
            w = q * step_w - left
            near, far = max(-w, 0), min(columns, width - w)
            out = (line * q_count + q) * channels
            count = gx.dtype.type(max(max(high - low, 0) * max(far - near, 0), 1))
            for r in range(low, high):
                for s in range(near, far):
                    pixel = ((image * height + h + r) * width + w + s) * channels
                    for c in range(channels):
                        gx[at(pixel + c)] += gy[at(out + c)] / count


@jit
def _means(x, y, pixels, first_image, last_image):  # type: ignore[no-untyped-def]
    """y[image, c] = mean over the image's pixels, added in float64."""
    channels = y.shape[1]
    sums = np.zeros(channels)
    for image in range(first_image, last_image):
        for c in range(channels):
            sums[at(c)] = 0
        for pixel in range(image * pixels, (image + 1) * pixels):
            for c in range(channels):
                sums[at(c)] += x[at(pixel * channels + c)]
        for c in range(channels):
            y[image, c] = sums[at(c)] / max(pixels, 1)


@reference.avg_pool2d.on("cpu", name="numba", supports=small_window)
def _(x: Array, *, window: Window) -> Array:
    y = empty(window.pooled(x.shape), x.dtype)
    if y.size:
        plan = pool_plan(x.shape, window)
        tasks = unit_tasks(y.shape[0] * y.shape[1], x.size)
        for_ranges(tasks, _average, flat(x), y.reshape(-1), plan)
    return y


@reference.avg_pool2d_grad.on("cpu", name="numba", supports=small_window)
def _(gy: Array, *, input_shape: tuple[int, ...], window: Window) -> Array:
    gx = empty(tuple(input_shape), gy.dtype)
    if gx.size:
        plan = pool_plan(tuple(input_shape), window)
        for_ranges(unit_tasks(input_shape[0], gx.size), _share, flat(gy), gx.reshape(-1), plan)
    return gx


@reference.global_avg_pool2d.on("cpu", name="numba", supports=is_float)
def _(x: Array) -> Array:
    y = np.empty((x.shape[0], x.shape[3]), x.dtype)
    if y.size:
        pixels = x.shape[1] * x.shape[2]
        for_ranges(unit_tasks(x.shape[0], x.size), _means, flat(x), y, pixels)
    return y
