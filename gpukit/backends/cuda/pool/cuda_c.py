"""Launchers of kernels/pool.cu; a global average is a mean over the middle axis (reduction.cu)."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

from gpukit import primitives as p
from gpukit.backends.cuda.reduction import REDUCE_KERNELS, reduce_middle
from gpukit.backends.cuda.runtime.common import BLOCK, contiguous, divide_up, empty_like, is_float
from gpukit.launch.kernel import Kernel
from gpukit.primitives.accumulate import Array
from gpukit.primitives.pool import index_dtype
from gpukit.primitives.windows import Window

MOST = 2**31 - 1 - BLOCK  # elements of an array in one launch: indices are ints

_max = Kernel("pool.cu", "max_pool")
_max_gradient = Kernel("pool.cu", "max_pool_gradient")
_average = Kernel("pool.cu", "average_pool")
_average_gradient = Kernel("pool.cu", "average_pool_gradient")
_global_gradient = Kernel("pool.cu", "global_average_gradient")
MAX_GRADIENT_KERNELS = (_max_gradient,)
MAX_KERNELS = (_max,)


class Pool(NamedTuple):
    """The struct Pool of kernels/covering.cuh."""

    h: int
    w: int
    c: int
    p: int
    q: int
    r: int
    s: int
    stride_h: int
    stride_w: int
    top: int
    left: int


@lru_cache(maxsize=1024)
def pool_struct(image: tuple[int, ...], window: Window) -> Pool:
    """For images (N,H,W,C)."""
    output = window.output_shape(image[1:3])
    slide = (*window.size, *window.stride, *window.offset)
    return Pool._make((*image[1:], *output, *slide))


def _runs(*arrays: Array) -> list[tuple[Array, ...]]:
    """The arrays cut into runs of images, so that a launch never counts beyond MOST.

    Images are contiguous: a run is a view that begins further on, and costs its kernel nothing.
    """
    images = arrays[0].shape[0]
    each = max(MOST // max([a.size // images for a in arrays]), 1)
    if images <= each:
        return [arrays]
    return [tuple(a[n : n + each] for a in arrays) for n in range(0, images, each)]


def _launch(
    kernel: Kernel, arrays: tuple[Array, ...], result: int, *numbers: Any, **types: Any
) -> None:
    """A thread for each element of `arrays[result]`."""
    for some in _runs(*arrays) if arrays[result].size else ():
        n = some[result].size
        kernel.launch(divide_up(n, BLOCK), BLOCK, *some, n, *numbers, T=some[0].dtype, **types)


def _fits(x: Array, *, window: Window) -> bool:
    one = max(math.prod(x.shape[1:]), math.prod(window.pooled(x.shape)[1:]))
    return is_float(x) and one <= MOST


def _gradient_fits(gy: Array, *, input_shape: tuple[int, ...], **_: Any) -> bool:
    return is_float(gy) and max(math.prod(gy.shape[1:]), math.prod(input_shape[1:])) <= MOST


@p.max_pool2d.on("cuda", name="cuda", supports=_fits, kernels=(_max,))
def max_pool(x: Array, *, window: Window) -> tuple[Array, Array]:
    x = contiguous(x)
    y = empty_like(x, window.pooled(x.shape))
    index = empty_like(x, y.shape, index_dtype(window))
    _launch(_max, (x, y, index), 1, pool_struct(x.shape, window), I=index.dtype)
    return y, index


@p.max_pool2d_grad.on(
    "cuda",
    name="cuda",
    supports=lambda gy, index, **settings: (
        index.dtype == index_dtype(settings["window"]) and _gradient_fits(gy, **settings)
    ),
    kernels=(_max_gradient,),
)
def max_pool_gradient(
    gy: Array, index: Array, *, input_shape: tuple[int, ...], window: Window
) -> Array:
    gy, index = contiguous(gy), contiguous(index)
    gx = empty_like(gy, input_shape)
    pool = pool_struct(tuple(input_shape), window)
    _launch(_max_gradient, (gy, index, gx), 2, pool, I=index.dtype)
    return gx


@p.avg_pool2d.on("cuda", name="cuda", supports=_fits, kernels=(_average,))
def _(x: Array, *, window: Window) -> Array:
    x = contiguous(x)
    y = empty_like(x, window.pooled(x.shape))
    _launch(_average, (x, y), 1, pool_struct(x.shape, window))
    return y


@p.avg_pool2d_grad.on("cuda", name="cuda", supports=_gradient_fits, kernels=(_average_gradient,))
def _(gy: Array, *, input_shape: tuple[int, ...], window: Window) -> Array:
    gy = contiguous(gy)
    gx = empty_like(gy, input_shape)
    _launch(_average_gradient, (gy, gx), 1, pool_struct(tuple(input_shape), window))
    return gx


@p.global_avg_pool2d.on(
    "cuda",
    name="cuda",
    supports=lambda x: is_float(x) and x.shape[0] * x.shape[3] <= MOST // 2,
    kernels=REDUCE_KERNELS,
)
def _(x: Array) -> Array:
    n, h, w, c = x.shape
    return reduce_middle(contiguous(x), (n, h * w, c), (n, c), "Sum", divisor=max(h * w, 1))


@p.global_avg_pool2d_grad.on(
    "cuda", name="cuda", supports=_gradient_fits, kernels=(_global_gradient,)
)
def _(gy: Array, *, input_shape: tuple[int, ...]) -> Array:
    gy = contiguous(gy)
    gx = empty_like(gy, input_shape)
    _, h, w, c = input_shape
    _launch(_global_gradient, (gy, gx), 1, h * w, c)
    return gx
