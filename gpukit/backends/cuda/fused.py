"""Launchers of kernels/fused.cu: bias, ReLU, LRN and max-pool after a bare convolution.

Shapes for which those kernels are not built go through normalisation/lrn.cu's and pool.cu's, in two
or three passes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cuda.conv.choice import bias_gradient
from gpukit.backends.cuda.normalisation.lrn import (
    Response,
    backward_halo,
    forward_halo,
    plain,
    plain_gradient,
    response_fits,
    warp_blocks,
)
from gpukit.backends.cuda.pool.cuda_c import max_pool, max_pool_gradient
from gpukit.backends.cuda.runtime.common import BLOCK, contiguous, divide_up, empty_like, is_float
from gpukit.backends.cuda.runtime.tiling import time_of
from gpukit.launch.kernel import Kernel
from gpukit.primitives.pool import index_dtype
from gpukit.primitives.windows import Padding, Pair, output_shape

Array = Any

WINDOW, STRIDE = (3, 3), (2, 2)  # of the forward kernel
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


def _fits(x: Array, bias: Array | None, *, groups: int, **_: Any) -> bool:
    return x.ndim == 4 and response_fits(x, groups=groups) and _bias_fits(x, bias)


def _gradient_fits(
    gy: Array, x: Array, bias: Array | None, index: Array, *, groups: int, window: Pair, **_: Any
) -> bool:
    return (
        _fits(x, bias, groups=groups)
        and is_float(gy, x)
        and gy.shape == index.shape
        and gy.size <= x.size
        and index.dtype == index_dtype(window)
    )


@p.bias_relu_lrn_pool.on("cuda", name="cuda", supports=_fits)
def _(
    x: Array,
    bias: Array | None,
    *,
    relu: bool,
    size: int,
    alpha: float,
    beta: float,
    k: float,
    groups: int,
    window: Pair,
    stride: Pair,
    padding: Padding,
) -> tuple[Array, Array]:
    x, bias, response = contiguous(x), contiguous(bias), Response(size, alpha, beta, k, groups)
    pooling: dict[str, Any] = {"window": window, "stride": stride, "padding": padding}
    if (window, stride) != (WINDOW, STRIDE) or not x.size or not response.suits_warps(x):
        normal = plain(x, bias, bool(relu), response) if x.size else x
        return max_pool(normal, **pooling)
    n, h, w, c = x.shape
    rows, columns = output_shape((h, w), window, stride, padding)
    y = empty_like(x, (n, rows, columns, c))
    index = empty_like(x, y.shape, np.uint8)
    lanes = n * divide_up(columns, SIDE_BY_SIDE) * c * x.dtype.itemsize // 16
    blocks = warp_blocks(lanes, forward_halo(x), FORWARD_BLOCK)
    band = _band(rows, blocks, x.dtype.itemsize)
    _forward.launch(
        (blocks, divide_up(rows, band)), FORWARD_BLOCK, x, bias, y, index,
        n, h, w, c, c // groups, rows, columns, padding[0][0], padding[1][0], band, bool(relu),
        *response.numbers, T=x.dtype, **response.template,
    )  # fmt: skip
    return y, index


@p.bias_relu_lrn_pool_grad.on("cuda", name="cuda", supports=_gradient_fits)
def _(
    gy: Array,
    x: Array,
    bias: Array | None,
    index: Array,
    *,
    relu: bool,
    size: int,
    alpha: float,
    beta: float,
    k: float,
    groups: int,
    window: Pair,
    stride: Pair,
    padding: Padding,
) -> tuple[Array, Array | None]:
    gy, x, bias, index = (contiguous(a) for a in (gy, x, bias, index))
    response = Response(size, alpha, beta, k, groups)
    if not x.size:
        gx = empty_like(x)
    elif index.dtype == np.uint8 and response.suits_warps(x, gy, index):
        gx, packs, (_, h, w, c) = empty_like(x), x.nbytes // 16, x.shape
        _backward.launch(
            warp_blocks(packs, backward_halo(x)), BLOCK, gy, x, bias, index, gx, packs,
            h, w, c, c // groups, *gy.shape[1:3], *window, *stride, padding[0][0], padding[1][0],
            bool(relu), *response.numbers, T=x.dtype, **response.template,
        )  # fmt: skip
    else:
        slopes = max_pool_gradient(
            gy, index, input_shape=x.shape, window=window, stride=stride, padding=padding
        )
        gx = plain_gradient(slopes, x, bias, bool(relu), response)
    return gx, None if bias is None else bias_gradient(gx)
