"""Launchers of kernels/pool.py."""

from __future__ import annotations

import math
from typing import Any

from gpukit import primitives as p
from gpukit.backends.cuda.runtime.common import contiguous, divide_up, empty_like, is_float
from gpukit.launch.numba import MOST, NumbaKernel
from gpukit.primitives.accumulate import Array
from gpukit.primitives.pool import index_dtype
from gpukit.primitives.windows import Window

BLOCK = 256

_max = NumbaKernel("pool", "max_pool")
_max_gradient = NumbaKernel("pool", "max_pool_gradient")
_average = NumbaKernel("pool", "average_pool")
_average_gradient = NumbaKernel("pool", "average_pool_gradient")


def _slide(window: Window) -> tuple[int, ...]:
    """Window, strides, top and left padding: what every kernel of pool.py takes."""
    return (*window.size, *window.stride, *window.offset)


def _fits(x: Array, *, window: Window) -> bool:
    return is_float(x) and max(x.size, math.prod(window.pooled(x.shape))) <= MOST


def _gradient_fits(gy: Array, *, input_shape: tuple[int, ...], **_: Any) -> bool:
    return is_float(gy) and max(gy.size, math.prod(input_shape)) <= MOST


def _max_gradient_fits(gy: Array, index: Array, **settings: Any) -> bool:
    return index.dtype == index_dtype(settings["window"]) and _gradient_fits(gy, **settings)


@p.max_pool2d.on("cuda", name="numba", supports=_fits, emulated=False, kernels=(_max,))
def _(x: Array, *, window: Window) -> tuple[Array, Array]:
    x = contiguous(x)
    y = empty_like(x, window.pooled(x.shape))
    index = empty_like(x, y.shape, index_dtype(window))
    if y.size:
        _max.launch(divide_up(y.size, BLOCK), BLOCK, x, y, index, *_slide(window))
    return y, index


@p.max_pool2d_grad.on(
    "cuda", name="numba", supports=_max_gradient_fits, emulated=False, kernels=(_max_gradient,)
)
def _(gy: Array, index: Array, *, input_shape: tuple[int, ...], window: Window) -> Array:
    gy, index = contiguous(gy), contiguous(index)
    gx = empty_like(gy, input_shape)
    if gx.size:
        _max_gradient.launch(divide_up(gx.size, BLOCK), BLOCK, gy, index, gx, *_slide(window))
    return gx


@p.avg_pool2d.on("cuda", name="numba", supports=_fits, emulated=False, kernels=(_average,))
def _(x: Array, *, window: Window) -> Array:
    x = contiguous(x)
    y = empty_like(x, window.pooled(x.shape))
    if y.size:
        _average.launch(divide_up(y.size, BLOCK), BLOCK, x, y, *_slide(window))
    return y


@p.avg_pool2d_grad.on(
    "cuda", name="numba", supports=_gradient_fits, emulated=False, kernels=(_average_gradient,)
)
def _(gy: Array, *, input_shape: tuple[int, ...], window: Window) -> Array:
    gy = contiguous(gy)
    gx = empty_like(gy, input_shape)
    if gx.size:
        _average_gradient.launch(divide_up(gx.size, BLOCK), BLOCK, gy, gx, *_slide(window))
    return gx
