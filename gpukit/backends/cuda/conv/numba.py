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
from gpukit.primitives.windows import Conv

Array = Any

BLOCK = 256
WEIGHT_BLOCK = 128  # threads that add up one weight's gradient, at most

_forward = NumbaKernel("conv/direct", "conv2d")
_input = NumbaKernel("conv/direct", "input_gradient")
_weight = NumbaKernel("conv/direct", "weight_gradient")


def _within(shape: ConvShape) -> bool:
    return max(math.prod(shape.x), math.prod(shape.w), math.prod(shape.y)) <= MOST


def _fits(x: Array, w: Array, b: Array | None = None, *, conv: Conv, **_: Any) -> bool:
    return is_float(x, w, b) and _within(conv_shape(x.shape, w.shape, conv))


def _input_fits(gy: Array, w: Array, *, input_shape: Any, conv: Conv) -> bool:
    return is_float(gy, w) and _within(conv_shape(tuple(input_shape), w.shape, conv))


def _weight_fits(x: Array, gy: Array, *, kernel_shape: Any, conv: Conv) -> bool:
    return is_float(x, gy) and _within(conv_shape(x.shape, tuple(kernel_shape), conv))


def _panels_fit(x: Array, w: Array, b: Array | None = None, *, conv: Conv, **_: Any) -> bool:
    return _fits(x, w, b, conv=conv) and panels.fit(conv_shape(x.shape, w.shape, conv))


def _input_panels_fit(gy: Array, w: Array, *, input_shape: Any, conv: Conv) -> bool:
    shape = conv_shape(tuple(input_shape), w.shape, conv)
    return is_float(gy, w) and _within(shape) and panels.fit(shape)


def _weight_panels_fit(x: Array, gy: Array, *, kernel_shape: Any, conv: Conv) -> bool:
    shape = conv_shape(x.shape, tuple(kernel_shape), conv)
    return is_float(x, gy) and _within(shape) and panels.fit(shape)


@p.conv2d.on("cuda", name="numba", supports=_fits, emulated=False, kernels=(_forward,))
def _(
    x: Array, w: Array, b: Array | None = None, *, conv: Conv, activation: str | None = None
) -> Array:
    shape = conv_shape(x.shape, w.shape, conv)
    x, w, b = contiguous(x), contiguous(w), contiguous(b)
    y = empty_like(x, shape.y)
    if y.size:
        # Without a bias any vector will do.
        _forward.launch(
            divide_up(y.size, BLOCK), BLOCK, x, w, w.reshape(-1) if b is None else b, y,
            b is not None, ACTIVATIONS[activation], *shape.slide,
        )  # fmt: skip
    return y


@p.conv2d_input_grad.on(
    "cuda", name="numba", supports=_input_fits, emulated=False, kernels=(_input,)
)
def _(gy: Array, w: Array, *, input_shape: tuple[int, ...], conv: Conv) -> Array:
    shape = conv_shape(tuple(input_shape), w.shape, conv)
    gy, w = contiguous(gy), contiguous(w)
    gx = empty_like(gy, shape.x)
    if gx.size:
        _input.launch(divide_up(gx.size, BLOCK), BLOCK, gy, w, gx, *shape.slide)
    return gx


@p.conv2d_weight_grad.on(
    "cuda", name="numba", supports=_weight_fits, emulated=False, kernels=(_weight,)
)
def _(x: Array, gy: Array, *, kernel_shape: tuple[int, ...], conv: Conv) -> Array:
    shape = conv_shape(x.shape, tuple(kernel_shape), conv)
    if shape.pixels == 0:
        return device_of(x).zeros(kernel_shape, x.dtype)
    x, gy = contiguous(x), contiguous(gy)
    gw = empty_like(x, shape.w)
    if gw.size:
        _weight.launch(gw.size, team(shape.pixels, WEIGHT_BLOCK), x, gy, gw, *shape.slide)
    return gw


@p.conv2d.on(
    "cuda",
    name="numba_im2col",
    supports=_panels_fit,
    emulated=False,
    kernels=panels.FORWARD_KERNELS,
)
def _(
    x: Array, w: Array, b: Array | None = None, *, conv: Conv, activation: str | None = None
) -> Array:
    shape = conv_shape(x.shape, w.shape, conv)
    return panels.forward(contiguous(x), contiguous(w), contiguous(b), shape, activation)


@p.conv2d_input_grad.on(
    "cuda",
    name="numba_im2col",
    supports=_input_panels_fit,
    emulated=False,
    kernels=panels.INPUT_KERNELS,
)
def _(gy: Array, w: Array, *, input_shape: tuple[int, ...], conv: Conv) -> Array:
    shape = conv_shape(tuple(input_shape), w.shape, conv)
    return panels.input_grad(contiguous(gy), contiguous(w), shape)


@p.conv2d_weight_grad.on(
    "cuda",
    name="numba_im2col",
    supports=_weight_panels_fit,
    emulated=False,
    kernels=panels.WEIGHT_KERNELS,
)
def _(x: Array, gy: Array, *, kernel_shape: tuple[int, ...], conv: Conv) -> Array:
    shape = conv_shape(x.shape, tuple(kernel_shape), conv)
    if shape.pixels == 0:
        return device_of(x).zeros(kernel_shape, x.dtype)
    return panels.weight_grad(contiguous(x), contiguous(gy), shape)
