"""Launchers of convolution in Numba: `numba`, kernels/conv/direct.py; `numba_im2col`, im2col.py."""

from __future__ import annotations

import math
from typing import Any

from gpukit import primitives as p
from gpukit.backends.cuda.conv import numba_im2col as panels
from gpukit.backends.cuda.conv.shape import ConvShape, conv_shape
from gpukit.backends.cuda.linear.gemm import ACTIVATIONS
from gpukit.backends.cuda.runtime.common import contiguous, divide_up, empty_like, is_float
from gpukit.device import device_of
from gpukit.launch.numba import MOST, NumbaKernel, team
from gpukit.primitives.windows import Padding, Pair

Array = Any

BLOCK = 256
WEIGHT_BLOCK = 128  # threads that add up one weight's gradient, at most

_forward = NumbaKernel("conv/direct", "conv2d")
_input = NumbaKernel("conv/direct", "input_gradient")
_weight = NumbaKernel("conv/direct", "weight_gradient")


def _within(shape: ConvShape) -> bool:
    return max(math.prod(shape.x), math.prod(shape.w), math.prod(shape.y)) <= MOST


def _shape(x: tuple[int, ...], w: tuple[int, ...], settings: dict[str, Any]) -> ConvShape:
    names = ("stride", "padding", "dilation", "groups")
    return conv_shape(tuple(x), tuple(w), *(settings[name] for name in names))


def _fits(x: Array, w: Array, b: Array | None = None, **settings: Any) -> bool:
    return is_float(x, w, b) and _within(_shape(x.shape, w.shape, settings))


def _input_fits(gy: Array, w: Array, **settings: Any) -> bool:
    return is_float(gy, w) and _within(_shape(settings["input_shape"], w.shape, settings))


def _weight_fits(x: Array, gy: Array, **settings: Any) -> bool:
    return is_float(x, gy) and _within(_shape(x.shape, settings["kernel_shape"], settings))


def _panels_fit(x: Array, w: Array, b: Array | None = None, **settings: Any) -> bool:
    return _fits(x, w, b, **settings) and panels.fit(_shape(x.shape, w.shape, settings))


def _input_panels_fit(gy: Array, w: Array, **settings: Any) -> bool:
    shape = _shape(settings["input_shape"], w.shape, settings)
    return _input_fits(gy, w, **settings) and panels.fit(shape)


def _weight_panels_fit(x: Array, gy: Array, **settings: Any) -> bool:
    shape = _shape(x.shape, settings["kernel_shape"], settings)
    return _weight_fits(x, gy, **settings) and panels.fit(shape)


@p.conv2d.on("cuda", name="numba", supports=_fits, emulated=False)
def _(
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
    shape = conv_shape(x.shape, w.shape, stride, padding, dilation, groups)
    x, w, b = contiguous(x), contiguous(w), contiguous(b)
    y = empty_like(x, shape.y)
    if y.size:
        # Without a bias any vector will do.
        _forward.launch(
            divide_up(y.size, BLOCK), BLOCK, x, w, w.reshape(-1) if b is None else b, y,
            b is not None, ACTIVATIONS[activation], *shape.slide,
        )  # fmt: skip
    return y


@p.conv2d_input_grad.on("cuda", name="numba", supports=_input_fits, emulated=False)
def _(
    gy: Array,
    w: Array,
    *,
    input_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> Array:
    shape = conv_shape(tuple(input_shape), w.shape, stride, padding, dilation, groups)
    gy, w = contiguous(gy), contiguous(w)
    gx = empty_like(gy, shape.x)
    if gx.size:
        _input.launch(divide_up(gx.size, BLOCK), BLOCK, gy, w, gx, *shape.slide)
    return gx


@p.conv2d_weight_grad.on("cuda", name="numba", supports=_weight_fits, emulated=False)
def _(
    x: Array,
    gy: Array,
    *,
    kernel_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> Array:
    shape = conv_shape(x.shape, tuple(kernel_shape), stride, padding, dilation, groups)
    if shape.pixels == 0:
        return device_of(x).zeros(kernel_shape, x.dtype)
    x, gy = contiguous(x), contiguous(gy)
    gw = empty_like(x, shape.w)
    if gw.size:
        _weight.launch(gw.size, team(shape.pixels, WEIGHT_BLOCK), x, gy, gw, *shape.slide)
    return gw


@p.conv2d.on("cuda", name="numba_im2col", supports=_panels_fit, emulated=False)
def _(
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
    shape = conv_shape(x.shape, w.shape, stride, padding, dilation, groups)
    return panels.forward(contiguous(x), contiguous(w), contiguous(b), shape, activation)


@p.conv2d_input_grad.on("cuda", name="numba_im2col", supports=_input_panels_fit, emulated=False)
def _(
    gy: Array,
    w: Array,
    *,
    input_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> Array:
    shape = conv_shape(tuple(input_shape), w.shape, stride, padding, dilation, groups)
    return panels.input_grad(contiguous(gy), contiguous(w), shape)


@p.conv2d_weight_grad.on("cuda", name="numba_im2col", supports=_weight_panels_fit, emulated=False)
def _(
    x: Array,
    gy: Array,
    *,
    kernel_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> Array:
    shape = conv_shape(x.shape, tuple(kernel_shape), stride, padding, dilation, groups)
    if shape.pixels == 0:
        return device_of(x).zeros(kernel_shape, x.dtype)
    return panels.weight_grad(contiguous(x), contiguous(gy), shape)
