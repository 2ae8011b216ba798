"""Launchers of kernels/pool.cu; a global average is a mean over the middle axis (reduction.cu)."""

from __future__ import annotations

import math
from typing import Any

from gpukit.backends import reference as p
from gpukit.backends.cuda.common import BLOCK, contiguous, divide_up, empty_like, is_float
from gpukit.backends.cuda.reduction import reduce_middle
from gpukit.backends.kernel import Kernel
from gpukit.backends.reference.pool import index_dtype
from gpukit.backends.reference.windows import Padding, Pair, output_shape

Array = Any

MOST = 2**31 - 1  # elements of an array: indices are ints

_max = Kernel("pool.cu", "max_pool")
_max_gradient = Kernel("pool.cu", "max_pool_gradient")
_average = Kernel("pool.cu", "average_pool")
_average_gradient = Kernel("pool.cu", "average_pool_gradient")
_global_gradient = Kernel("pool.cu", "global_average_gradient")


def _sizes(
    image: tuple[int, ...], output: Pair, window: Pair, stride: Pair, padding: Padding
) -> tuple[int, ...]:
    """h, w, c, p, q, r, s, strides, top and left padding: what every kernel of pool.cu takes."""
    return (*image[1:], *output, *window, *stride, padding[0][0], padding[1][0])


def _fits(x: Array, *, window: Pair, stride: Pair, padding: Padding) -> bool:
    rows, columns = output_shape(x.shape[1:3], window, stride, padding)
    largest = max(x.size, x.shape[0] * rows * columns * x.shape[3])
    return is_float(x) and largest <= MOST - BLOCK


def _gradient_fits(gy: Array, *, input_shape: tuple[int, ...], **_: Any) -> bool:
    return is_float(gy) and max(gy.size, math.prod(input_shape)) <= MOST - BLOCK


@p.max_pool2d.on("cuda", name="cuda", supports=_fits)
def max_pool(x: Array, *, window: Pair, stride: Pair, padding: Padding) -> tuple[Array, Array]:
    x = contiguous(x)
    output = output_shape(x.shape[1:3], window, stride, padding)
    y = empty_like(x, (x.shape[0], *output, x.shape[3]))
    index = empty_like(x, y.shape, index_dtype(window))
    if y.size:
        _max.launch(
            divide_up(y.size, BLOCK), BLOCK, x, y, index, y.size,
            *_sizes(x.shape, output, window, stride, padding), T=x.dtype, I=index.dtype,
        )  # fmt: skip
    return y, index


@p.max_pool2d_grad.on(
    "cuda",
    name="cuda",
    supports=lambda gy, index, **settings: (
        index.dtype == index_dtype(settings["window"]) and _gradient_fits(gy, **settings)
    ),
)
def max_pool_gradient(
    gy: Array,
    index: Array,
    *,
    input_shape: tuple[int, ...],
    window: Pair,
    stride: Pair,
    padding: Padding,
) -> Array:
    gy, index = contiguous(gy), contiguous(index)
    gx = empty_like(gy, input_shape)
    if gx.size:
        _max_gradient.launch(
            divide_up(gx.size, BLOCK), BLOCK, gy, index, gx, gx.size,
            *_sizes(input_shape, gy.shape[1:3], window, stride, padding),
            T=gy.dtype, I=index.dtype,
        )  # fmt: skip
    return gx


@p.avg_pool2d.on("cuda", name="cuda", supports=_fits)
def _(x: Array, *, window: Pair, stride: Pair, padding: Padding) -> Array:
    x = contiguous(x)
    output = output_shape(x.shape[1:3], window, stride, padding)
    y = empty_like(x, (x.shape[0], *output, x.shape[3]))
    if y.size:
        _average.launch(
            divide_up(y.size, BLOCK), BLOCK, x, y, y.size,
            *_sizes(x.shape, output, window, stride, padding), T=x.dtype,
        )  # fmt: skip
    return y


@p.avg_pool2d_grad.on("cuda", name="cuda", supports=_gradient_fits)
def _(
    gy: Array, *, input_shape: tuple[int, ...], window: Pair, stride: Pair, padding: Padding
) -> Array:
    gy = contiguous(gy)
    gx = empty_like(gy, input_shape)
    if gx.size:
        _average_gradient.launch(
            divide_up(gx.size, BLOCK), BLOCK, gy, gx, gx.size,
            *_sizes(input_shape, gy.shape[1:3], window, stride, padding), T=gy.dtype,
        )  # fmt: skip
    return gx


@p.global_avg_pool2d.on("cuda", name="cuda", supports=lambda x: is_float(x) and x.size <= MOST)
def _(x: Array) -> Array:
    n, h, w, c = x.shape
    return reduce_middle(contiguous(x), (n, h * w, c), (n, c), "Sum", divisor=max(h * w, 1))


@p.global_avg_pool2d_grad.on("cuda", name="cuda", supports=_gradient_fits)
def _(gy: Array, *, input_shape: tuple[int, ...]) -> Array:
    gy = contiguous(gy)
    gx = empty_like(gy, input_shape)
    if gx.size:
        _, h, w, c = input_shape
        _global_gradient.launch(
            divide_up(gx.size, BLOCK), BLOCK, gy, gx, gx.size, h * w, c, T=gy.dtype
        )
    return gx
