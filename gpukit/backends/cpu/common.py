"""What every family of CPU implementations needs: dtypes, plain buffers, scratch memory."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Pair = tuple[int, int]
Padding = tuple[Pair, Pair]

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)

ACTIVATIONS: dict[str | None, int] = {None: 0, "relu": 1, "sigmoid": 2, "tanh": 3}


def is_float(x: Any) -> bool:
    """Whether compiled code takes this array: native float32 or float64."""
    dtype = x.dtype
    return bool(dtype in (FLOAT32, FLOAT64))


class _Alias:
    """Memory of an array, without its read-only flag; keeps the array alive."""

    __slots__ = ("__array_interface__", "array")

    def __init__(self, array: Array) -> None:
        address = array.__array_interface__["data"][0]
        self.array = array
        self.__array_interface__ = {
            "version": 3,
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (address, False),
        }


def plain(x: Array) -> Array:
    """`x` in C order, aligned, not marked read-only: what compiled code takes; copied if need be.

    Numba compiles once more for read-only arguments, and arrays of the tape are read-only. So those
    are passed as an alias of the same memory, which inputs' readers must not (and do not) write to.
    """
    flags = x.flags
    if flags.carray:
        return x
    if flags.c_contiguous and flags.aligned:
        return np.asarray(_Alias(x)) if x.size else np.zeros(x.shape, x.dtype)
    return np.array(x, order="C")


def flat(x: Array) -> Array:
    """`plain(x)` as one dimension, so that compiled code sees one type whatever the shape."""
    return plain(x).reshape(-1)


_local = threading.local()


def scratch(size: int, dtype: np.dtype[Any], slot: int = 0) -> Array:
    """`size` elements of this thread's own work memory; valid until the thread asks again.

    Fresh memory would cost a page fault every 4 KiB, more than filling a panel. `slot` separates
    buffers in use at one time.
    """
    buffers: dict[int, Array] | None = getattr(_local, "buffers", None)
    if buffers is None:
        buffers = _local.buffers = {}
    bytes_wanted = size * dtype.itemsize
    buffer = buffers.get(slot)
    if buffer is None or buffer.size < bytes_wanted:
        buffer = buffers[slot] = np.empty(bytes_wanted, np.uint8)
    return buffer[:bytes_wanted].view(dtype)
