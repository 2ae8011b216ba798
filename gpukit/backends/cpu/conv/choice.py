"""Convolution on the CPU: the implementations, best first, and im2col among them.

depthwise   direct loops, for one input channel a group
tiled       sums in registers, images read where they lie; float32 with AVX-512, see tiling.py
im2col      panels and one-thread matrix products, see im2col.py
direct      the same loops for any shape
fft         forward as a product of spectra, see fft.py
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cpu.activation.piecewise import bias_pattern
from gpukit.backends.cpu.conv import direct, fft, im2col, tiling
from gpukit.backends.cpu.conv.plan import Plan, make_plan
from gpukit.backends.cpu.conv.widen import fold, spread, widened, widened_shape
from gpukit.backends.cpu.runtime.common import ACTIVATIONS, Array, flat, plain, same_floats
from gpukit.backends.cpu.runtime.memory import empty, scratch
from gpukit.backends.cpu.runtime.partial_sums import add_parts
from gpukit.backends.cpu.runtime.threads import Ranges, parallel_for
from gpukit.primitives.windows import Conv

# Weight gradients are added up from at most so many parts, of at most so many bytes together.
_MOST_PARTS = 8
_PART_BYTES = 32 << 20


def _depthwise(x: Array, w: Array, *_: Any, conv: Conv, **__: Any) -> bool:
    return same_floats(x, w) and 1 < conv.groups == x.shape[3]


def _input_depthwise(
    gy: Array, w: Array, *, input_shape: tuple[int, ...], conv: Conv, **_: Any
) -> bool:
    return same_floats(gy, w) and 1 < conv.groups == input_shape[3]


p.conv2d.on("cpu", name="depthwise", supports=_depthwise)(direct.conv2d)
p.conv2d_input_grad.on("cpu", name="depthwise", supports=_input_depthwise)(direct.input_grad)
p.conv2d_weight_grad.on("cpu", name="depthwise", supports=_depthwise)(direct.weight_grad)

p.conv2d.on("cpu", name="tiled", supports=tiling.supports)(tiling.conv2d)
p.conv2d_input_grad.on("cpu", name="tiled", supports=tiling.supports_input_grad)(tiling.input_grad)
p.conv2d_weight_grad.on("cpu", name="tiled", supports=tiling.supports_weight_grad)(
    tiling.weight_grad
)


def _forward_tasks(plan: Plan) -> Ranges:
    """Ranges of lines, whole panels each."""
    panels = -(-plan.lines // plan.panel_lines)
    return [
        (a * plan.panel_lines, min(b * plan.panel_lines, plan.lines)) for a, b in plan.tasks(panels)
    ]


@p.conv2d.on("cpu", name="im2col", supports=same_floats)
def _conv2d(
    x: Array, w: Array, b: Array | None = None, *, conv: Conv, activation: str | None = None
) -> Array:
    plan = make_plan(x.shape, w.shape, conv, x.itemsize)
    y = empty(plan.output_shape, x.dtype)
    if y.size == 0:
        return y
    bias = bias_pattern(b, x.dtype, plan.output_shape[2])
    t = plan.together
    if t > 1:
        w, conv = spread(plain(w), t, conv.stride[1]), widened(conv, t)
        plan = make_plan(x.shape, w.shape, conv, x.itemsize)
    inputs, weights, outputs = flat(x), flat(w), y.reshape(-1)
    kind = ACTIVATIONS[activation]
    tasks = _forward_tasks(plan)

    def task(i: int) -> None:
        panel = scratch(plan.panel_size, x.dtype)
        im2col.forward(inputs, weights, bias, outputs, panel, plan.numbers, *tasks[i], kind)

    parallel_for(len(tasks), task)
    return y


@p.conv2d_input_grad.on("cpu", name="im2col", supports=same_floats)
def _input_grad(gy: Array, w: Array, *, input_shape: tuple[int, ...], conv: Conv) -> Array:
    input_shape = tuple(input_shape)
    plan = make_plan(input_shape, w.shape, conv, gy.itemsize)
    gx = empty(input_shape, gy.dtype)
    if gx.size == 0:
        return gx
    t = plan.together
    if t > 1:
        w, conv = spread(plain(w), t, conv.stride[1]), widened(conv, t)
        plan = make_plan(input_shape, w.shape, conv, gy.itemsize)
    gradients, weights, out = flat(gy), flat(w), gx.reshape(-1)
    tasks = plan.tasks(input_shape[0])

    def task(i: int) -> None:
        panel = scratch(plan.panel_size, gy.dtype)
        im2col.input_grad(gradients, weights, out, panel, plan.numbers, *tasks[i])

    parallel_for(len(tasks), task)
    return gx


@p.conv2d_weight_grad.on("cpu", name="im2col", supports=same_floats)
def _weight_grad(x: Array, gy: Array, *, kernel_shape: tuple[int, ...], conv: Conv) -> Array:
    narrow = kernel_shape = tuple(kernel_shape)
    plan = make_plan(x.shape, kernel_shape, conv, x.itemsize)
    t, narrow_stride = plan.together, conv.stride[1]
    if t > 1:
        kernel_shape, conv = widened_shape(narrow, t, narrow_stride), widened(conv, t)
        plan = make_plan(x.shape, kernel_shape, conv, x.itemsize)
    gw = empty(kernel_shape, x.dtype)
    if gw.size == 0 or plan.lines == 0:
        return np.zeros(narrow, x.dtype)
    inputs, gradients = flat(x), flat(gy)
    rows = [
        (a, min(a + plan.panel_rows, kernel_shape[0]))
        for a in range(0, kernel_shape[0], plan.panel_rows)
    ]
    affordable = max(_PART_BYTES // gw.nbytes, 1)
    parts = plan.tasks(plan.lines, min(_MOST_PARTS, affordable))
    count = len(parts)
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


p.conv2d.on("cpu", name="direct", supports=same_floats)(direct.conv2d)
p.conv2d.on("cpu", name="fft", supports=fft.supports)(fft.conv2d)
p.conv2d_input_grad.on("cpu", name="direct", supports=same_floats)(direct.input_grad)
p.conv2d_weight_grad.on("cpu", name="direct", supports=same_floats)(direct.weight_grad)
