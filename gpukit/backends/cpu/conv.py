"""Convolution on the CPU by im2col: how the work is cut into tasks and panels.

All cuts follow from the shape alone, never from the number of threads, so that results are the
same bits for any GPUKIT_THREADS.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from gpukit.backends import reference as p
from gpukit.backends.cpu import im2col
from gpukit.backends.cpu.activation import bias_pattern
from gpukit.backends.cpu.common import (
    ACTIVATIONS,
    Array,
    Padding,
    Pair,
    flat,
    is_float,
    plain,
)
from gpukit.backends.cpu.memory import empty, scratch
from gpukit.backends.cpu.parts import add_parts
from gpukit.backends.cpu.threads import cuts, parallel_for
from gpukit.backends.cpu.widen import fold, pixels_together, spread, widened_shape

# A panel about this large stays in L2 beside the blocks that the GEMM packs.
_PANEL_BYTES = 512 << 10
# Fewer rows would repack the weights too often, a shorter product would reread y too often.
_PANEL_PIXELS = 256
_PANEL_DEPTH = 256
# One task is worth at least this much work, in multiply-adds (some 30 µs), and there are at most so
# many. Copying a value into the panel takes as long as about so many multiply-adds.
_TASK_WORK = 3_000_000
_COPY_WORK = 40
_MOST_TASKS = 32
# Weight gradients are added up from at most so many parts, of at most so many bytes together.
_MOST_PARTS = 8
_PART_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Plan:
    """One convolution's shape and how it is cut; `numbers` is what compiled code reads."""

    output_shape: tuple[int, int, int, int]
    together: int
    lines: int
    panel_lines: int
    panel_rows: int
    panel_size: int
    work: int
    numbers: Array

    def tasks(self, units: int) -> list[Pair]:
        """Cut `units` (lines, images …) into ranges, each worth a task if possible."""
        count = min(units, max(self.work // _TASK_WORK, 1), _MOST_TASKS)
        return cuts(units, count)


@lru_cache(maxsize=1024)
def make_plan(
    input_shape: tuple[int, ...],
    kernel_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    itemsize: int,
) -> Plan:
    """Plan for x (N,H,W,C) and w (R,S,C/groups,K)."""
    n, h, w, c = input_shape
    r, s, depth, k = kernel_shape
    (top, bottom), (left, right) = padding
    rows = (h + top + bottom - (r - 1) * dilation[0] - 1) // stride[0] + 1
    columns = (w + left + right - (s - 1) * dilation[1] - 1) // stride[1] + 1
    lines = n * rows
    in_place = r == s == 1 and stride == (1, 1) and padding == ((0, 0), (0, 0))
    # Kernel rows in one panel: enough for a long product, no more than the cache holds.
    row_run = s * depth
    fitting = _PANEL_BYTES // itemsize // max(_PANEL_PIXELS * row_run, 1)
    panel_rows = min(r, max(fitting, -(-_PANEL_DEPTH // max(row_run, 1)), 1))
    pixels = max(_PANEL_PIXELS, _PANEL_BYTES // itemsize // max(panel_rows * row_run, 1))
    panel_lines = max(1, min(pixels // max(columns, 1), lines or 1))
    # Equal panels rather than a short last one.
    panels = -(-lines // panel_lines)
    panel_lines = -(-lines // panels) if panels else 1
    numbers = [
        n,
        h,
        w,
        c,
        k,
        r,
        s,
        rows,
        columns,
        *stride,
        top,
        left,
        *dilation,
        groups,
        panel_lines,
        panel_rows,
        int(in_place),
    ]
    return Plan(
        output_shape=(n, rows, columns, k),
        together=pixels_together(kernel_shape, columns, stride, dilation, groups),
        lines=lines,
        panel_lines=panel_lines,
        panel_rows=panel_rows,
        panel_size=0 if in_place else panel_lines * columns * panel_rows * row_run + 16,
        work=lines * columns * r * s * depth * (k + _COPY_WORK * groups * (not in_place)),
        numbers=np.array(numbers, dtype=np.int64),
    )


def _forward_tasks(plan: Plan) -> list[Pair]:
    """Ranges of lines, whole panels each."""
    panels = -(-plan.lines // plan.panel_lines)
    return [
        (a * plan.panel_lines, min(b * plan.panel_lines, plan.lines)) for a, b in plan.tasks(panels)
    ]


def _float_conv(x: Array, w: Array, *_: Any, **__: Any) -> bool:
    return is_float(x) and x.dtype == w.dtype


@p.conv2d.on("cpu", name="im2col", supports=_float_conv)
def _conv2d(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    activation: str | None = None,
) -> Array:
    plan = make_plan(x.shape, w.shape, stride, padding, dilation, groups, x.itemsize)
    y = empty(plan.output_shape, x.dtype)
    if y.size == 0:
        return y
    bias = bias_pattern(b, x.dtype, plan.output_shape[2])
    t = plan.together
    if t > 1:
        w, stride = spread(plain(w), t, stride[1]), (stride[0], t * stride[1])
        plan = make_plan(x.shape, w.shape, stride, padding, dilation, groups, x.itemsize)
    inputs, weights, outputs = flat(x), flat(w), y.reshape(-1)
    kind = ACTIVATIONS[activation]
    tasks = _forward_tasks(plan)

    def task(i: int) -> None:
        panel = scratch(plan.panel_size, x.dtype)
        im2col.forward(inputs, weights, bias, outputs, panel, plan.numbers, *tasks[i], kind)

    parallel_for(len(tasks), task)
    return y


@p.conv2d_input_grad.on("cpu", name="im2col", supports=_float_conv)
def _input_grad(
    gy: Array,
    w: Array,
    *,
    input_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> Array:
    input_shape = tuple(input_shape)
    plan = make_plan(input_shape, w.shape, stride, padding, dilation, groups, gy.itemsize)
    gx = empty(input_shape, gy.dtype)
    if gx.size == 0:
        return gx
    t = plan.together
    if t > 1:
        w, stride = spread(plain(w), t, stride[1]), (stride[0], t * stride[1])
        plan = make_plan(input_shape, w.shape, stride, padding, dilation, groups, gy.itemsize)
    gradients, weights, out = flat(gy), flat(w), gx.reshape(-1)
    tasks = plan.tasks(input_shape[0])

    def task(i: int) -> None:
        panel = scratch(plan.panel_size, gy.dtype)
        im2col.input_grad(gradients, weights, out, panel, plan.numbers, *tasks[i])

    parallel_for(len(tasks), task)
    return gx


@p.conv2d_weight_grad.on("cpu", name="im2col", supports=_float_conv)
def _weight_grad(
    x: Array,
    gy: Array,
    *,
    kernel_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> Array:
    narrow = kernel_shape = tuple(kernel_shape)
    plan = make_plan(x.shape, kernel_shape, stride, padding, dilation, groups, x.itemsize)
    t, narrow_stride = plan.together, stride[1]
    if t > 1:
        kernel_shape, stride = widened_shape(narrow, t, narrow_stride), (stride[0], t * stride[1])
        plan = make_plan(x.shape, kernel_shape, stride, padding, dilation, groups, x.itemsize)
    gw = empty(kernel_shape, x.dtype)
    if gw.size == 0 or plan.lines == 0:
        return np.zeros(narrow, x.dtype)
    inputs, gradients = flat(x), flat(gy)
    rows = [
        (a, min(a + plan.panel_rows, kernel_shape[0]))
        for a in range(0, kernel_shape[0], plan.panel_rows)
    ]
    affordable = max(_PART_BYTES // gw.nbytes, 1)
    count = min(plan.lines, max(plan.work // _TASK_WORK, 1), _MOST_PARTS, affordable)
    parts = cuts(plan.lines, count)
    sums = gw.reshape(1, -1) if count == 1 else empty((count, gw.size), gw.dtype)

    def task(i: int) -> None:
        part, block = divmod(i, len(rows))
        panel = scratch(plan.panel_size, x.dtype)
        im2col.weight_grad(
            inputs, gradients, sums[part], panel, plan.numbers, *parts[part], *rows[block]
        )

    parallel_for(len(parts) * len(rows), task)
    if count > 1:
        add_parts(sums, gw.reshape(-1))
    return fold(gw, narrow, t, narrow_stride) if t > 1 else gw
