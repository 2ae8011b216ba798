"""Arrays whose memory is used again, and work memory of each thread.

A training step makes the same arrays again and again. From the operating system, each 4 KiB of them
costs a page fault of about 0.5 µs, as long as a memory-bound loop needs for 50 KiB: relu's gradient
of 1.2 MB takes 290 µs into fresh memory, 40 µs into memory used before. So a large array's memory
goes to a shelf when the last array on it is gone, and the next array of about its size takes it.
"""

from __future__ import annotations

import math
import os
import threading
from typing import Any

import numpy as np

from gpukit.backends.cpu.runtime.common import Array

# Smaller arrays come from NumPy, whose allocator keeps such memory anyway.
_LEAST_BYTES = 32 << 10
# The shelves hold at most about this much; what does not fit goes back to the operating system.
_MOST_BYTES = 2 << 30
if hasattr(os, "sysconf"):
    _MOST_BYTES = min(_MOST_BYTES, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4)


class _Shelves:
    """Unused memory by size. Appending to and popping from a list are atomic."""

    def __init__(self) -> None:
        self.by_size: dict[int, list[tuple[int, Array]]] = {}
        self.bytes = 0

    def take(self, size: int) -> tuple[int, Array]:
        """(address, memory) of `size` bytes."""
        shelf = self.by_size.get(size)
        try:
            if shelf:
                block = shelf.pop()
                self.bytes -= size
                return block
        except IndexError:  # another thread took the last one
            pass
        memory = np.empty(size, np.uint8)
        return memory.__array_interface__["data"][0], memory

    def put(self, size: int, block: tuple[int, Array]) -> None:
        """Keep `block` for a later `take`, if there is room."""
        if self.bytes + size <= _MOST_BYTES:
            self.by_size.setdefault(size, []).append(block)
            self.bytes += size


_shelves = _Shelves()


class _Loan:
    """Base object of an array and of all its views: its end returns the memory."""

    __slots__ = ("__array_interface__", "block", "shelves", "size")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], size: int) -> None:
        self.size = size
        self.shelves = _shelves
        self.block = block = _shelves.take(size)
        self.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": dtype.str,
            "data": (block[0], False),
        }

    def __del__(self) -> None:
        try:  # noqa: SIM105  (contextlib.suppress costs a microsecond)
            self.shelves.put(self.size, self.block)
        except (MemoryError, AttributeError):
            pass  # no room on a shelf, or never lent: the block goes back to the operating system


def _rounded(size: int) -> int:
    """`size` rounded up to one of eight steps an octave, so that similar arrays share memory."""
    step = 1 << max(size.bit_length() - 4, 12)
    return -(-size // step) * step


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Like np.empty, for results of primitives."""
    size = math.prod(shape) * dtype.itemsize
    if size < _LEAST_BYTES:
        return np.empty(shape, dtype)
    return np.asarray(_Loan(shape, dtype, _rounded(size)))


def release() -> None:
    """Give all memory that is not in use back to the operating system."""
    _shelves.by_size = {}
    _shelves.bytes = 0


_local = threading.local()


def scratch(size: int, dtype: np.dtype[Any], slot: int = 0) -> Array:
    """`size` elements of this thread's own work memory; valid until the thread asks again.

    `slot` separates buffers in use at one time.
    """
    buffers: dict[int, Array] | None = getattr(_local, "buffers", None)
    if buffers is None:
        buffers = _local.buffers = {}
    bytes_wanted = size * dtype.itemsize
    buffer = buffers.get(slot)
    if buffer is None or buffer.size < bytes_wanted:
        buffer = buffers[slot] = np.empty(bytes_wanted, np.uint8)
    return buffer[:bytes_wanted].view(dtype)
