"""Convolution by its definition: loops that multiply and add where the values lie, without a panel.

Every multiply-add loads and stores its target in L1, so a product of matrices has four times the
speed; but depthwise convolution (one input channel a group) has no product of matrices, and there
one pass over line and kernel row is as much as memory allows. That is the default for depthwise;
elsewhere it is here to be raced.

`plan` is `Plan.numbers` of plan.py. Loops run over output lines, kernel cells, pixels, channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpukit.backends.cpu.activation.piecewise import bias_pattern, finish
from gpukit.backends.cpu.conv.plan import make_plan
from gpukit.backends.cpu.runtime.common import ACTIVATIONS, Array, flat, plain
from gpukit.backends.cpu.runtime.jit import at, jit
from gpukit.backends.cpu.runtime.memory import empty
from gpukit.backends.cpu.runtime.partial_sums import add_parts
from gpukit.backends.cpu.runtime.threads import for_ranges, parallel_for
from gpukit.backends.cpu.runtime.vectors import clear_run, multiply_add_run
from gpukit.primitives.windows import Conv

# A multiply-add here takes as long as this many in a GEMM: tasks are cut accordingly.
_SLOWNESS = 8
_MOST_PARTS = 8


_FORWARD, _INPUT, _WEIGHT = range(3)


def _adding(target: int) -> Any:
    """Compiled: the loops of one pass over some output lines, which add to its target

        y[q, k] += x[pixel, c] · w[r, s, c, k]        and likewise to x of y·w, to w of x·y

    where `pixel` lies under cell (r, s) of the window at q.
    """

    @jit(reorder=target == _INPUT)
    def run(x, w, y, plan, first_line, last_line):  # type: ignore[no-untyped-def]
        conv = plan[0]
        height, width, channels, outputs = conv.height, conv.width, conv.channels, conv.outputs
        rows, columns, p_count, q_count = conv.rows, conv.columns, conv.p_count, conv.q_count
        step_h, step_w, top, left = conv.step_h, conv.step_w, conv.top, conv.left
        apart_h, apart_w, groups = conv.apart_h, conv.apart_w, conv.groups
        depth, kernels = channels // groups, outputs // groups
        for line in range(first_line, last_line):
            image, row = divmod(line, p_count)
            for r in range(rows):
                h = row * step_h - top + r * apart_h
                if h < 0 or h >= height:
                    continue
                for q in range(q_count):
                    out = (line * q_count + q) * outputs
                    for s in range(columns):
                        v = q * step_w - left + s * apart_w
                        if v < 0 or v >= width:
                            continue
                        pixel = ((image * height + h) * width + v) * channels
                        weights = (r * columns + s) * depth * outputs
                        if depth == 1 and kernels == 1:
                            if target == _FORWARD:
                                multiply_add_run(y, out, x, pixel, w, weights, outputs)
                            elif target == _INPUT:
                                multiply_add_run(x, pixel, y, out, w, weights, outputs)
                            else:
                                multiply_add_run(w, weights, y, out, x, pixel, outputs)
                            continue
                        for group in range(groups):
                            sums = out + group * kernels
                            for c in range(depth):
                                value = x[at(pixel + group * depth + c)]
                                place = weights + c * outputs + group * kernels
                                if target == _FORWARD:
                                    for k in range(kernels):
                                        y[at(sums + k)] += value * w[at(place + k)]
                                elif target == _WEIGHT:
                                    for k in range(kernels):
                                        w[at(place + k)] += value * y[at(sums + k)]
                                else:
                                    for k in range(kernels):
                                        value += y[at(sums + k)] * w[at(place + k)]
                                    x[at(pixel + group * depth + c)] = value

    return run


_add_forward, _add_input, _add_weight = _adding(_FORWARD), _adding(_INPUT), _adding(_WEIGHT)


@jit
def _forward(x, w, bias, y, plan, activation, first_line, last_line):  # type: ignore[no-untyped-def]
    q_count, outputs = plan[0].q_count, plan[0].outputs
    for line in range(first_line, last_line):
        start = line * q_count * outputs
        clear_run(y, start, q_count * outputs)
        _add_forward(x, w, y, plan, line, line + 1)
        if activation != 0 or len(bias) > 0:
            finish(y[start:], q_count, outputs, outputs, bias, activation)


@jit
def _input_grad(gy, w, gx, plan, first_image, last_image):  # type: ignore[no-untyped-def]
    """Whole images, so that no two threads add to one pixel."""
    conv = plan[0]
    size = conv.height * conv.width * conv.channels
    clear_run(gx, first_image * size, (last_image - first_image) * size)
    _add_input(gx, w, gy, plan, first_image * conv.p_count, last_image * conv.p_count)


@jit
def _weight_grad(x, gy, gw, plan, first_line, last_line):  # type: ignore[no-untyped-def]
    clear_run(gw, 0, len(gw))
    _add_weight(x, gw, gy, plan, first_line, last_line)


def conv2d(
    x: Array, w: Array, b: Array | None = None, *, conv: Conv, activation: str | None = None
) -> Array:
    """As the definition's conv2d."""
    plan = make_plan(x.shape, w.shape, conv, x.itemsize)
    y = empty(plan.output_shape, x.dtype)
    if y.size:
        bias, kind = bias_pattern(b, x.dtype, plan.output_shape[2]), ACTIVATIONS[activation]
        tasks = plan.tasks(plan.lines, slowness=_SLOWNESS)
        for_ranges(tasks, _forward, flat(x), flat(w), bias, y.reshape(-1), plan.numbers, kind)
    return y


def input_grad(gy: Array, w: Array, *, input_shape: tuple[int, ...], conv: Conv) -> Array:
    """As the definition's conv2d_input_grad."""
    input_shape = tuple(input_shape)
    plan = make_plan(input_shape, w.shape, conv, gy.itemsize)
    gx = empty(input_shape, gy.dtype)
    if gx.size:
        tasks = plan.tasks(input_shape[0], slowness=_SLOWNESS)
        for_ranges(tasks, _input_grad, flat(gy), flat(w), gx.reshape(-1), plan.numbers)
    return gx


def weight_grad(x: Array, gy: Array, *, kernel_shape: tuple[int, ...], conv: Conv) -> Array:
    """As the definition's conv2d_weight_grad."""
    kernel_shape = tuple(kernel_shape)
    plan = make_plan(x.shape, kernel_shape, conv, x.itemsize)
    gw = np.zeros(kernel_shape, x.dtype)
    if gw.size and plan.lines:
        inputs, gradients = flat(x), flat(plain(gy))
        tasks = plan.tasks(plan.lines, _MOST_PARTS, _SLOWNESS)
        sums = np.empty((len(tasks), gw.size), gw.dtype)

        def task(i: int) -> None:
            _weight_grad(inputs, gradients, sums[i], plan.numbers, *tasks[i])

        parallel_for(len(tasks), task)
        add_parts(sums, gw.reshape(-1))
    return gw
