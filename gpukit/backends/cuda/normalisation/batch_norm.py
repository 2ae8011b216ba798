"""Launchers of normalisation/batch_norm.cu: statistics and sums in two stages, then one pass."""

from __future__ import annotations

import math
from typing import Any

from gpukit import primitives as p
from gpukit.backends.cuda.reduction import REDUCE_KERNELS, reduce_middle
from gpukit.backends.cuda.runtime.common import BLOCK, contiguous, divide_up, empty_like, is_float
from gpukit.device import device_of
from gpukit.launch.kernel import Kernel
from gpukit.primitives.accumulate import Array

WIDEST = 32  # columns side by side in a block
TOGETHER = 8  # values that a thread of the first stage loads at once
BLOCKS = 1024  # of the first stage: some for each multiprocessor of any card
MOST_PARTS = 256  # that the second stage joins
ROWS_A_THREAD = 16  # where nothing is summed

_moments = Kernel("normalisation/batch_norm.cu", "column_moments")
_join = Kernel("normalisation/batch_norm.cu", "join_moments")
_normalise = Kernel("normalisation/batch_norm.cu", "normalise")
_sums = Kernel("normalisation/batch_norm.cu", "gradient_sums")
_input_gradient = Kernel("normalisation/batch_norm.cu", "input_gradient")


def _lanes(columns: int) -> int:
    """Columns of a block: the smallest power of two that holds them all, or 32."""
    return min(1 << max(columns - 1, 0).bit_length(), WIDEST)


def parts_of(rows: int, columns: int) -> tuple[int, int, int]:
    """(parts, rows of each, lanes) of the first stage; no part is empty."""
    lanes = _lanes(columns)
    least = BLOCK // lanes * TOGETHER
    most = min(MOST_PARTS, max(BLOCKS // divide_up(columns, lanes), 1))
    each = max(least, divide_up(rows, most))
    return divide_up(rows, each), each, lanes


def _matrix(x: Array) -> tuple[int, int]:
    return math.prod(x.shape[:-1]), x.shape[-1]


def _pass(kernel: Kernel, y: Array, *arrays: Array, epsilon: float) -> Array:
    """One of the kernels that go through all elements, with `y` as their result."""
    rows, columns = _matrix(y)
    lanes = _lanes(columns)
    each = BLOCK // lanes * ROWS_A_THREAD
    if y.size:
        kernel.launch(
            divide_up(rows, each) * divide_up(columns, lanes), BLOCK, *arrays, y, rows, columns,
            each, lanes, float(epsilon), T=y.dtype,
        )  # fmt: skip
    return y


def _statistics(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of the columns of contiguous x."""
    rows, columns = _matrix(x)
    if not x.size:
        zeros = device_of(x).zeros
        return zeros((columns,), x.dtype), zeros((columns,), x.dtype)
    parts, each, lanes = parts_of(rows, columns)
    means, squares = (empty_like(x, (parts, columns)) for _ in range(2))
    tiles = divide_up(columns, lanes)
    _moments.launch(
        parts * tiles, BLOCK, x, means, squares, rows, columns, each, parts, lanes, T=x.dtype
    )
    if parts == 1:
        return means.reshape(columns), squares.reshape(columns)
    mean, variance = (empty_like(x, (columns,)) for _ in range(2))
    _join.launch(
        tiles, BLOCK, x, means, squares, mean, variance, rows, columns, each, parts, lanes,
        T=x.dtype,
    )  # fmt: skip
    return mean, variance


def _fits(x: Array, *others: Array, **_: Any) -> bool:
    return is_float(x, *others) and x.ndim > 0


@p.batch_norm.on("cuda", name="cuda", supports=_fits, kernels=(_moments, _join, _normalise))
def _(x: Array, gamma: Array, beta: Array, *, epsilon: float) -> tuple[Array, Array, Array]:
    x, gamma, beta = contiguous(x), contiguous(gamma), contiguous(beta)
    mean, variance = _statistics(x)
    y = _pass(_normalise, empty_like(x), x, gamma, beta, mean, variance, epsilon=epsilon)
    return y, mean, variance


@p.batch_norm_inference.on("cuda", name="cuda", supports=_fits, kernels=(_normalise,))
def _(
    x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, *, epsilon: float
) -> Array:
    arrays = [contiguous(a) for a in (x, gamma, beta, mean, variance)]
    return _pass(_normalise, empty_like(x), *arrays, epsilon=epsilon)


@p.batch_norm_grad.on(
    "cuda", name="cuda", supports=_fits, kernels=(_sums, _input_gradient, *REDUCE_KERNELS)
)
def _(
    gy: Array, x: Array, gamma: Array, mean: Array, variance: Array, *, epsilon: float
) -> tuple[Array, Array, Array]:
    gy, x, gamma, mean, variance = (contiguous(a) for a in (gy, x, gamma, mean, variance))
    rows, columns = _matrix(x)
    gx = empty_like(gy)
    if not gy.size:
        zeros = device_of(gy).zeros
        return gx, zeros((columns,), gy.dtype), zeros((columns,), gy.dtype)
    parts, each, lanes = parts_of(rows, columns)
    sums = empty_like(gy, (parts, 2, columns))
    _sums.launch(
        parts * divide_up(columns, lanes), BLOCK, gy, x, mean, variance, sums, rows, columns, each,
        lanes, float(epsilon), T=gy.dtype,
    )  # fmt: skip
    both = reduce_middle(sums, (1, parts, 2 * columns), (2, columns), "Sum")
    gbeta, ggamma = both[0], both[1]
    _pass(_input_gradient, gx, gy, x, gamma, mean, variance, ggamma, gbeta, epsilon=epsilon)
    return gx, ggamma, gbeta
