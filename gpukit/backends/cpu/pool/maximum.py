"""Pooling: compiled loops over output lines (a row of windows), channels innermost."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from gpukit import primitives as reference
from gpukit.backends.cpu.runtime.common import Array, flat, is_float
from gpukit.backends.cpu.runtime.jit import at, jit
from gpukit.backends.cpu.runtime.memory import empty
from gpukit.backends.cpu.runtime.records import record
from gpukit.backends.cpu.runtime.threads import Ranges, for_ranges, tasks_of
from gpukit.backends.cpu.runtime.vectors import VECTOR, choose_vector, window_2x2_vector
from gpukit.primitives.windows import Window

_TASK_SIZE = 100_000


@jit
def _max_forward(x, y, index, plan, first_line, last_line):  # type: ignore[no-untyped-def]
    """Lines first_line … last_line of y and index; a window's cells are compared in their order.

    `not v <= best` is true for a NaN too, `best == best` keeps the first NaN.
    """
    pool = plan[0]
    height, width, channels = pool.height, pool.width, pool.channels
    p_count, q_count, rows, columns = pool.p_count, pool.q_count, pool.rows, pool.columns
    step_h, step_w, top, left = pool.step_h, pool.step_w, pool.top, pool.left
    # Vectors may write beyond a pixel's channels: what is written later overwrites that.
    end = last_line * q_count * channels
    for line in range(first_line, last_line):
        image, p = divmod(line, p_count)
        out = line * q_count * channels
        h = p * step_h - top
        if rows == 2 and columns == 2 and h >= 0 and h + 2 <= height and left == 0:
            whole = min(q_count, (width - 2) // step_w + 1)
        else:
            whole = 0
        above = (image * height + h) * width * channels
        below = above + width * channels
        for q in range(whole):
            a = above + q * step_w * channels
            b = below + q * step_w * channels
            done = 0
            while (
                done < channels
                and b + channels + done + VECTOR <= len(x)
                and (out + done + VECTOR <= end)
            ):
                window_2x2_vector(y, out + done, index, x, a + done, width * channels, channels)
                done += VECTOR
            for c in range(done, channels):
                best, cell = x[at(a + c)], 0
                for i in range(1, 4):
                    v = x[at((b if i > 1 else a) + i % 2 * channels + c)]
                    if (not v <= best) and best == best:
                        best, cell = v, i
                y[at(out + c)] = best
                index[at(out + c)] = cell
            out += channels
        for q in range(whole, q_count):
            w = q * step_w - left
            fresh = True
            for r in range(max(-h, 0), min(rows, height - h)):
                for s in range(max(-w, 0), min(columns, width - w)):
                    pixel = ((image * height + h + r) * width + w + s) * channels
                    cell = r * columns + s
                    if fresh:
                        for c in range(channels):
                            y[at(out + c)] = x[at(pixel + c)]
                            index[at(out + c)] = cell
                        fresh = False
                    else:
                        for c in range(channels):
                            v, best = x[at(pixel + c)], y[at(out + c)]
                            better = (not v <= best) and best == best
                            y[at(out + c)] = v if better else best
                            index[at(out + c)] = cell if better else index[at(out + c)]
            if fresh:
                for c in range(channels):
                    y[at(out + c)] = 0
                    index[at(out + c)] = 0
            out += channels


@jit
def _max_backward(gy, index, gx, plan, first_image, last_image):  # type: ignore[no-untyped-def]
    """gx of whole images: every window gives its gy to the cell that won."""
    pool = plan[0]
    height, width, channels = pool.height, pool.width, pool.channels
    p_count, q_count, rows, columns = pool.p_count, pool.q_count, pool.rows, pool.columns
    step_h, step_w, top, left = pool.step_h, pool.step_w, pool.top, pool.left
    image_size = height * width * channels
    # Windows that tile the image write every pixel once: no zeros first, no adding.
    tiles = (
        rows == step_h and columns == step_w and top == 0 and left == 0
        and p_count * rows == height and q_count * columns == width
    )  # fmt: skip
    if not tiles:
        gx[first_image * image_size : last_image * image_size] = 0
    if tiles and rows == 2 and columns == 2:
        end = last_image * image_size
        for line in range(first_image * p_count, last_image * p_count):
            for r in range(2):
                pixel = (line * 2 + r) * width * channels
                for q in range(q_count):
                    out = (line * q_count + q) * channels
                    for cell in range(2 * r, 2 * r + 2):
                        done = 0
                        while (
                            done < channels
                            and pixel + done + VECTOR <= end
                            and (out + done + VECTOR <= len(gy))
                        ):
                            choose_vector(gx, pixel + done, gy, index, out + done, cell)
                            done += VECTOR
                        for c in range(done, channels):
                            g = gy[at(out + c)]
                            gx[at(pixel + c)] = g if index[at(out + c)] == cell else 0
                        pixel += channels
        return
    for image in range(first_image, last_image):
        for p in range(p_count):
            h = p * step_h - top
            for q in range(q_count):
                w = q * step_w - left
                out = ((image * p_count + p) * q_count + q) * channels
                for r in range(max(-h, 0), min(rows, height - h)):
                    for s in range(max(-w, 0), min(columns, width - w)):
                        pixel = ((image * height + h + r) * width + w + s) * channels
                        cell = r * columns + s
                        if tiles:
                            for c in range(channels):
                                g = gy[at(out + c)]
                                gx[at(pixel + c)] = g if index[at(out + c)] == cell else 0
                        else:
                            for c in range(channels):
                                g = gy[at(out + c)]
                                gx[at(pixel + c)] += g if index[at(out + c)] == cell else 0


@lru_cache(maxsize=1024)
def pool_plan(input_shape: tuple[int, ...], window: Window) -> Array:
    """What compiled code reads of images (N,H,W,C) and how they are pooled."""
    (_, h, w, c), (p_count, q_count) = input_shape, window.output_shape(input_shape[1:3])
    return record(
        height=h, width=w, channels=c, p_count=p_count, q_count=q_count,
        rows=window.size[0], columns=window.size[1],
        step_h=window.stride[0], step_w=window.stride[1],
        top=window.offset[0], left=window.offset[1],
    )  # fmt: skip


def unit_tasks(units: int, size: int) -> Ranges:
    """Ranges of units (lines or images) that together hold `size` values."""
    return tasks_of(units, size, _TASK_SIZE)


def small_window(x: Array, *_: Any, window: Window, **__: Any) -> bool:
    """Whether the window's cells are numbered by uint8, and so few that float32 adds them well."""
    return is_float(x) and window.cells <= 256


@reference.max_pool2d.on("cpu", name="numba", supports=small_window)
def _(x: Array, *, window: Window) -> tuple[Array, Array]:
    shape = window.pooled(x.shape)
    y, index = empty(shape, x.dtype), empty(shape, np.dtype(np.uint8))
    if y.size:
        plan = pool_plan(x.shape, window)
        tasks = unit_tasks(shape[0] * shape[1], x.size)
        for_ranges(tasks, _max_forward, flat(x), y.reshape(-1), index.reshape(-1), plan)
    return y, index


@reference.max_pool2d_grad.on("cpu", name="numba", supports=small_window)
def _(gy: Array, index: Array, *, input_shape: tuple[int, ...], window: Window) -> Array:
    gx = empty(input_shape, gy.dtype)
    if gx.size:
        plan = pool_plan(tuple(input_shape), window)
        tasks = unit_tasks(input_shape[0], gx.size)
        for_ranges(tasks, _max_backward, flat(gy), flat(index), gx.reshape(-1), plan)
    return gx
