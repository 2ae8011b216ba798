"""Fully connected layers and matrix products by kernels/linear.cu."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpukit import primitives as p
from gpukit.backends.cuda.linear.gemm import PRODUCT_KERNELS, Operand, product
from gpukit.backends.cuda.runtime.common import contiguous, empty_like, is_float
from gpukit.device import device_of
from gpukit.primitives.accumulate import Array


def _matrix(a: Array, transposed: bool = False) -> Operand:
    return Operand(a, a.shape[1], transposed=transposed)


def multiply(
    a: Array,
    b: Array,
    shape: tuple[int, int, int],
    transpose_a: bool = False,
    transpose_b: bool = False,
    *,
    by: Callable[..., None],
    **finish: Any,
) -> Array:
    """A new array of op(a)·op(b), `shape` = (m, n, k), `by` gemm.product or one like it."""
    m, n, k = shape
    a, b = contiguous(a), contiguous(b)
    if k == 0 and not finish:
        return device_of(a).zeros((m, n), a.dtype)
    out = empty_like(a, (m, n))
    by(_matrix(a, transpose_a), _matrix(b, transpose_b), out, shape, **finish)
    return out


def register(by: Callable[..., None], **options: Any) -> None:
    """Register dense, its gradients and matmul, whose products are made `by`: `kernels` among the
    options are those that it launches."""

    @p.dense.on("cuda", **options)
    def _(x: Array, w: Array, b: Array | None = None, *, activation: str | None = None) -> Array:
        shape = (x.shape[0], w.shape[1], w.shape[0])
        return multiply(x, w, shape, by=by, bias=contiguous(b), activation=activation)

    @p.dense_input_grad.on("cuda", **options)
    def _(gy: Array, w: Array) -> Array:
        shape = (gy.shape[0], w.shape[0], w.shape[1])
        return multiply(gy, w, shape, transpose_b=True, by=by)

    @p.dense_weight_grad.on("cuda", **options)
    def _(x: Array, gy: Array) -> Array:
        shape = (x.shape[1], gy.shape[1], x.shape[0])
        return multiply(x, gy, shape, transpose_a=True, by=by)

    @p.matmul.on("cuda", **options)
    def _(a: Array, b: Array) -> Array:
        return multiply(a, b, (a.shape[0], b.shape[1], a.shape[1]), by=by)


register(product, name="gemm", supports=is_float, kernels=PRODUCT_KERNELS)
