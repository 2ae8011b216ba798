"""cuBLAS's matrix products by NumPy: columns first, all of a matrix within its memory."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from cupy import _memory, _order, _state
from cupy._errors import CUDARuntimeError
from cupy.cuda.device import get_cublas_handle

_HOST = 0  # alpha and beta lie in the host's memory
_TF32 = 3
_modes: dict[int, list[int]] = {}  # of each handle: how products are formed, where factors lie


class CUBLASError(RuntimeError):
    """What cuBLAS refuses."""


def getMathMode(handle: int) -> int:
    return _settings(handle)[0]


def setMathMode(handle: int, mode: int) -> None:
    _settings(handle)[0] = mode


def getPointerMode(handle: int) -> int:
    return _settings(handle)[1]


def setPointerMode(handle: int, mode: int) -> None:
    _settings(handle)[1] = mode


def sgemm(handle, transa, transb, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc):  # type: ignore[no-untyped-def]
    sizes = (m, n, k)
    _gemm("f", handle, transa, transb, sizes, alpha, (A, lda, 0), (B, ldb, 0), beta, (C, ldc, 0), 1)


def dgemm(handle, transa, transb, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc):  # type: ignore[no-untyped-def]
    sizes = (m, n, k)
    _gemm("d", handle, transa, transb, sizes, alpha, (A, lda, 0), (B, ldb, 0), beta, (C, ldc, 0), 1)


def sgemmStridedBatched(  # type: ignore[no-untyped-def]
    handle, transa, transb, m, n, k, alpha, A, lda, strideA, B, ldb, strideB, beta, C, ldc,
    strideC, batchCount,
):  # fmt: skip
    _gemm(
        "f", handle, transa, transb, (m, n, k), alpha, (A, lda, strideA), (B, ldb, strideB), beta,
        (C, ldc, strideC), batchCount,
    )  # fmt: skip


def dgemmStridedBatched(  # type: ignore[no-untyped-def]
    handle, transa, transb, m, n, k, alpha, A, lda, strideA, B, ldb, strideB, beta, C, ldc,
    strideC, batchCount,
):  # fmt: skip
    _gemm(
        "d", handle, transa, transb, (m, n, k), alpha, (A, lda, strideA), (B, ldb, strideB), beta,
        (C, ldc, strideC), batchCount,
    )  # fmt: skip


def _settings(handle: int) -> list[int]:
    return _modes.setdefault(handle, [0, _HOST])


def _gemm(
    kind: str,
    handle: int,
    transa: int,
    transb: int,
    sizes: tuple[int, int, int],
    alpha: int,
    a: tuple[int, int, int],
    b: tuple[int, int, int],
    beta: int,
    c: tuple[int, int, int],
    batches: int,
) -> None:
    m, n, k = sizes
    mode, pointers = _settings(handle)
    if handle != get_cublas_handle():
        raise CUBLASError("CUBLAS_STATUS_INVALID_VALUE: the handle is another card's")
    if pointers != _HOST:
        raise NotImplementedError("the stand-in's cuBLAS takes alpha and beta from the host")
    dtype = np.dtype(kind)
    one, before = (dtype.type(_scalar(p, dtype)) for p in (alpha, beta))
    line = _state.line()
    _order.work(line)
    left = _matrices("A", line, a, (k, m) if transa else (m, k), batches, dtype, write=False)
    right = _matrices("B", line, b, (n, k) if transb else (k, n), batches, dtype, write=False)
    out = _matrices("C", line, c, (m, n), batches, dtype, write=True)
    for x, y, z in zip(left, right, out, strict=True):
        factors = [x.T if transa else x, y.T if transb else y]
        if mode == _TF32 and kind == "f":
            factors = [_tf32(f) for f in factors]
        product = one * (factors[0] @ factors[1])
        z[...] = product + before * z if before else product


def _scalar(address: int, dtype: np.dtype) -> Any:
    return np.frombuffer((ctypes.c_char * dtype.itemsize).from_address(address), dtype)[0]


def _matrices(
    name: str,
    line: _order.Line,
    where: tuple[int, int, int],
    shape: tuple[int, int],
    batches: int,
    dtype: np.dtype,
    *,
    write: bool,
) -> list[np.ndarray]:
    """The matrices of a batch, each (rows, columns) with columns `ld` elements apart."""
    address, ld, step = where
    rows, columns = shape
    if ld < max(1, rows) or min(rows, columns, batches) < 1:
        raise CUBLASError(f"CUBLAS_STATUS_INVALID_VALUE: {name} {shape}, leading dimension {ld}")
    size = dtype.itemsize
    extent = ((batches - 1) * abs(step) + (columns - 1) * ld + rows) * size
    memory = _memory.find(address, extent)
    if memory.device != _state.device():
        raise CUDARuntimeError(700)
    memory.uses.use(line, f"cuBLAS, {name}", write=write)
    start = address - memory.ptr
    flat = memory.bytes[start : start + extent].view(dtype)
    return [
        np.lib.stride_tricks.as_strided(flat[i * step :], shape, (size, ld * size))
        for i in range(batches)
    ]


def _tf32(x: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(x).view(np.uint32)
    return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
