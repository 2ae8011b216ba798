"""Launchers of kernels/random.cu: Philox words, and dropout by them."""

from __future__ import annotations

import math

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cuda.runtime.common import BLOCK, contiguous, divide_up, empty_like, is_float
from gpukit.launch.kernel import Kernel
from gpukit.primitives.accumulate import Array
from gpukit.primitives.random import place_of

_dropout = Kernel("random.cu", "dropout")
_philox = Kernel("random.cu", "philox")


@p.philox.on("cuda", name="cuda", kernels=(_philox,))
def _(like: Array, *, shape: tuple[int, ...], seed: int, layer: int, step: int) -> Array:
    words = empty_like(like, shape, np.uint32)
    size = math.prod(shape)
    if size:
        _philox.launch(divide_up(size, 4 * BLOCK), BLOCK, words, size, *place_of(seed, layer, step))
    return words


@p.dropout.on("cuda", name="cuda", supports=lambda x, **_: is_float(x), kernels=(_dropout,))
def _(x: Array, *, rate: float, seed: int, layer: int, step: int, scale: float) -> Array:
    x = contiguous(x)
    y = empty_like(x)
    if x.size:
        threshold = round(float(rate) * 2**32)
        _dropout.launch(
            divide_up(x.size, 4 * BLOCK), BLOCK, x, y, x.size, threshold, float(scale),
            *place_of(seed, layer, step), T=x.dtype,
        )  # fmt: skip
    return y
