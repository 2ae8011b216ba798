"""Launchers of kernels/fused.cu: bias, ReLU, LRN and max-pool after a bare convolution.

Shapes for which those kernels are not built go through normalisation/lrn.cu's and pool.cu's, in two
or three passes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cuda.conv.choice import BIAS_KERNELS, bias_gradient
from gpukit.backends.cuda.normalisation.lrn import (
    PLAIN_GRADIENT_KERNELS,
    PLAIN_KERNELS,
    backward_halo,
    fits,
    forward_halo,
    plain,
    plain_gradient,
    suits_warps,
    template,
    warp_blocks,
)
from gpukit.backends.cuda.pool.cuda_c import (
    MAX_GRADIENT_KERNELS,
    MAX_KERNELS,
    max_pool,
    max_pool_gradient,
    pool_struct,
)
from gpukit.backends.cuda.runtime.common import BLOCK, contiguous, divide_up, empty_like, is_float
from gpukit.backends.cuda.runtime.tiling import time_of
from gpukit.launch.kernel import Kernel
from gpukit.primitives.accumulate import Array
from gpukit.primitives.normalisation import Response
from gpukit.primitives.pool import index_dtype
from gpukit.primitives.windows import Window

SIZE, STRIDE = (3, 3), (2, 2)  # of the forward kernel
SIDE_BY_SIDE = 2  # outputs of one lane
FORWARD_BLOCK = 128
MOST_BANDS = 65535  # blocks along y
_TOGETHER = {4: 6, 8: 4}  # blocks of the forward kernel on a multiprocessor, by bytes a number
_MOST_TRIED = 64  # bands

_forward = Kernel("fused.cu", "bias_relu_lrn_pool")
_backward = Kernel("fused.cu", "bias_relu_lrn_pool_gradient")


@lru_cache(maxsize=1024)
def _band(rows: int, blocks: int, itemsize: int) -> int:
    """Rows of outputs that a lane walks down: as few as whole waves of blocks gain by (tiling.py).

    A band of n rows of outputs normalises 2n + 1 rows of pixels.
    """

    def cost(band: int) -> float:
        launched = blocks * divide_up(rows, band)
        return time_of(launched, _TOGETHER[itemsize], FORWARD_BLOCK) * (2 * band + 1)

    fewest = divide_up(rows, MOST_BANDS)
    bands = {max(divide_up(rows, n), fewest) for n in range(1, min(rows, _MOST_TRIED) + 1)}
    return min(sorted(bands, reverse=True), key=cost)


def _bias_fits(x: Array, bias: Array | None) -> bool:
    return bias is None or (is_float(x, bias) and bias.shape == (x.shape[-1],))


def _fits(x: Array, bias: Array | None, *, response: Response, **_: Any) -> bool:
    return x.ndim == 4 and fits(x, response=response) and _bias_fits(x, bias)


def _gradient_fits(
    gy: Array,
    x: Array,
    bias: Array | None,
    index: Array,
    *,
    response: Response,
    window: Window,
    **_: Any,
) -> bool:
    return (
        _fits(x, bias, response=response)
        and is_float(gy, x)
        and gy.shape == index.shape == window.pooled(x.shape)
        and index.dtype == index_dtype(window)
    )


@p.bias_relu_lrn_pool.on(
    "cuda", name="cuda", supports=_fits, kernels=(_forward, *PLAIN_KERNELS, *MAX_KERNELS)
)
def _(
    x: Array, bias: Array | None, *, relu: bool, response: Response, window: Window
) -> tuple[Array, Array]:
    x, bias = contiguous(x), contiguous(bias)
    if window[:2] != (SIZE, STRIDE) or not x.size or not suits_warps(response, x):
        normal = plain(x, bias, bool(relu), response) if x.size else x
        return max_pool(normal, window=window)
    n, rows, columns, c = window.pooled(x.shape)
    y = empty_like(x, (n, rows, columns, c))
    index = empty_like(x, y.shape, np.uint8)
    lanes = n * divide_up(columns, SIDE_BY_SIDE) * c * x.dtype.itemsize // 16
    blocks = warp_blocks(lanes, forward_halo(x), FORWARD_BLOCK)
    band = _band(rows, blocks, x.dtype.itemsize)
    _forward.launch(
        (blocks, divide_up(rows, band)), FORWARD_BLOCK, x, bias, y, index,
        n, c // response.groups, pool_struct(x.shape, window), band, bool(relu),
        *response.numbers, T=x.dtype, **template(response),
    )  # fmt: skip
    return y, index


@p.bias_relu_lrn_pool_grad.on(
    "cuda",
    name="cuda",
    supports=_gradient_fits,
    kernels=(_backward, *BIAS_KERNELS, *PLAIN_GRADIENT_KERNELS, *MAX_GRADIENT_KERNELS),
)
def _(
    gy: Array,
    x: Array,
    bias: Array | None,
    index: Array,
    *,
    relu: bool,
    response: Response,
    window: Window,
) -> tuple[Array, Array | None]:
    gy, x, bias, index = (contiguous(a) for a in (gy, x, bias, index))
    if not x.size:
        gx = empty_like(x)
    elif index.dtype == np.uint8 and suits_warps(response, x, gy, index):
        gx, packs = empty_like(x), x.nbytes // 16
        _backward.launch(
            warp_blocks(packs, backward_halo(x)), BLOCK, gy, x, bias, index, gx, packs,
            x.shape[3] // response.groups, pool_struct(x.shape, window), bool(relu),
            *response.numbers, T=x.dtype, **template(response),
        )  # fmt: skip
    else:
        slopes = max_pool_gradient(gy, index, input_shape=x.shape, window=window)
        gx = plain_gradient(slopes, x, bias, bool(relu), response)
    return gx, None if bias is None else bias_gradient(gx)
