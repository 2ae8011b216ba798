"""cuBLAS's matrix products by NumPy: columns first, all of a matrix within its memory."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from cupy import _memory, _order, _state, _surface
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


def _settings(handle: int) -> list[int]:
    return _modes.setdefault(handle, [0, _HOST])


def _gemm(name: str) -> Callable[..., None]:
    """The product of this name: s or d for the dtype, of one matrix or of a batch."""
    path, dtype = f"cupy_backends.cuda.libs.cublas.{name}", np.dtype({"s": "f", "d": "d"}[name[0]])

    def product(*args: Any, **kwargs: Any) -> None:
        _product(dtype, **_surface.bind(path, args, kwargs).arguments)

    product.__name__, product.__signature__ = name, _surface.signature(path)  # type: ignore
    return product


sgemm, dgemm = _gemm("sgemm"), _gemm("dgemm")
sgemmStridedBatched, dgemmStridedBatched = (
    _gemm("sgemmStridedBatched"),
    _gemm("dgemmStridedBatched"),
)


def _product(  # type: ignore[no-untyped-def]
    dtype, handle, transa, transb, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc,
    strideA=0, strideB=0, strideC=0, batchCount=1,
) -> None:  # fmt: skip
    mode, pointers = _settings(handle)
    if handle != get_cublas_handle():
        raise CUBLASError("CUBLAS_STATUS_INVALID_VALUE: the handle is another card's")
    if pointers != _HOST:
        raise NotImplementedError("the stand-in's cuBLAS takes alpha and beta from the host")
    one, before = (dtype.type(_scalar(p, dtype)) for p in (alpha, beta))
    line = _state.line()
    _order.work(line)
    a, b, c = (A, lda, strideA), (B, ldb, strideB), (C, ldc, strideC)
    left = _matrices("A", line, a, (k, m) if transa else (m, k), batchCount, dtype, write=False)
    right = _matrices("B", line, b, (n, k) if transb else (k, n), batchCount, dtype, write=False)
    out = _matrices("C", line, c, (m, n), batchCount, dtype, write=True)
    for x, y, z in zip(left, right, out, strict=True):
        factors = [x.T if transa else x, y.T if transb else y]
        if mode == _TF32 and dtype == np.float32:
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
