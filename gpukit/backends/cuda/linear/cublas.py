"""Matrix products by NVIDIA's cuBLAS, through CuPy: one more choice, on real cards.

cublas        float32 with all its digits, and float64
cublas_tf32   float32 whose factors are rounded to TF32's 10 bits of mantissa, on tensor cores from
              sm_80 on; only ever by this name

cuBLAS counts columns first. A row-major matrix is its own transpose there, so that c = a·b is asked
for as cᵀ = bᵀ·aᵀ: the operands change places, and nothing is copied.

         ours, rows first            cuBLAS's
    c  (m, n)  rows ldc apart        cᵀ  (n, m)  columns ldc apart
    a  (m, k)                        aᵀ  (k, m)  as it lies; "transposed" where it lies as (k, m)

Work goes to CuPy's current stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cuda.conv import im2col
from gpukit.backends.cuda.conv.shape import conv_shape
from gpukit.backends.cuda.linear.dense import register
from gpukit.backends.cuda.linear.gemm import SUM_KERNELS, Operand, finish
from gpukit.backends.cuda.runtime.common import address, contiguous, is_float
from gpukit.device import device_of
from gpukit.errors import GpukitError, ShapeError
from gpukit.primitives.accumulate import Array
from gpukit.primitives.windows import Conv

MOST = 2**31 - 1  # rows, columns, distances that cuBLAS's ints count
FULL, TF32 = 0, 3  # CUBLAS_DEFAULT_MATH, CUBLAS_TF32_TENSOR_OP_MATH
_HOST = 0  # CUBLAS_POINTER_MODE_HOST: factors alpha and beta lie in the host's memory


@contextmanager
def _handle(index: int, mode: int) -> Iterator[tuple[Any, int]]:
    """cuBLAS, and CuPy's handle of a card in this mode; left as it was found."""
    import cupy
    from cupy_backends.cuda.libs import cublas

    with cupy.cuda.Device(index):
        handle = cupy.cuda.device.get_cublas_handle()
        before = cublas.getMathMode(handle), cublas.getPointerMode(handle)
        cublas.setMathMode(handle, mode)
        cublas.setPointerMode(handle, _HOST)
        try:
            yield cublas, handle
        finally:
            cublas.setMathMode(handle, before[0])
            cublas.setPointerMode(handle, before[1])


def product(
    a: Operand,
    b: Operand,
    out: Array,
    shape: tuple[int, int, int],
    *,
    stride: int | None = None,
    batches: int = 1,
    batch: int = 0,
    bias: Array | None = None,
    activation: str | None = None,
    accumulate: bool = False,
    mode: int = FULL,
) -> None:
    """out = φ(op(a)[m, k] · op(b)[k, n] + bias), or out += the product: as gemm.product."""
    m, n, k = shape
    if out.size == 0:
        return
    ld = n if stride is None else stride
    if max(m, n, k, a.stride, b.stride, ld, batches) > MOST:
        raise ShapeError(
            f"matrix product of m, n, k = {shape}: cuBLAS counts to {MOST}; cut it into parts"
        )
    if k == 0:
        if not accumulate:
            out.fill(0)
    else:
        one = np.ones((), out.dtype)
        before = np.full((), accumulate, out.dtype)
        letter = "s" if out.dtype == np.float32 else "d"
        sizes = int(b.transposed), int(a.transposed), n, m, k, one.ctypes.data
        left, right, result = (address(x) for x in (b.array, a.array, out))
        with _handle(device_of(out).index, mode) as (cublas, handle):
            try:
                if batches == 1:
                    getattr(cublas, f"{letter}gemm")(
                        handle, *sizes, left, b.stride, right, a.stride,
                        before.ctypes.data, result, ld,
                    )  # fmt: skip
                else:
                    getattr(cublas, f"{letter}gemmStridedBatched")(
                        handle, *sizes, left, b.stride, b.batch, right, a.stride, a.batch,
                        before.ctypes.data, result, ld, batch, batches,
                    )  # fmt: skip
            except RuntimeError as error:  # CuPy's CUBLASError
                raise GpukitError(
                    f"cuBLAS refuses a product of m, n, k = {shape}, {batches} of them, "
                    f"{out.dtype}: {error}"
                ) from error
    finish(out, bias, activation)


def _singles(*arrays: Array, **_: Any) -> bool:
    return is_float(*arrays) and arrays[0].dtype == np.float32


def _never(*_: Any, **__: Any) -> bool:
    return False


def _register(name: str, mode: int, supports: Any, precision: str) -> None:
    by = partial(product, mode=mode)
    limits = {
        "name": name,
        "supports": supports,
        "default_when": _never,
        "emulated": False,
        "precision": precision,
    }

    register(by, **limits, kernels=SUM_KERNELS)

    @p.conv2d.on("cuda", **limits, kernels=im2col.PANEL_KERNELS)
    def _(
        x: Array, w: Array, b: Array | None = None, *, conv: Conv, activation: str | None = None
    ) -> Array:
        shape = conv_shape(x.shape, w.shape, conv).check()
        return im2col.forward(contiguous(x), contiguous(w), contiguous(b), shape, activation, by)

    @p.conv2d_input_grad.on("cuda", **limits, kernels=im2col.INPUT_KERNELS)
    def _(gy: Array, w: Array, *, input_shape: tuple[int, ...], conv: Conv) -> Array:
        shape = conv_shape(tuple(input_shape), w.shape, conv).check()
        return im2col.input_grad(contiguous(gy), contiguous(w), shape, by)

    @p.conv2d_weight_grad.on("cuda", **limits, kernels=im2col.PANEL_KERNELS)
    def _(x: Array, gy: Array, *, kernel_shape: tuple[int, ...], conv: Conv) -> Array:
        shape = conv_shape(x.shape, tuple(kernel_shape), conv).check()
        if shape.pixels == 0:
            return device_of(x).zeros(kernel_shape, x.dtype)
        return im2col.weight_grad(contiguous(x), contiguous(gy), shape, by)


_register("cublas", FULL, is_float, "full")
_register("cublas_tf32", TF32, _singles, "tf32")
