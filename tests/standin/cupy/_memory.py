"""Memory of cards and pinned memory of the host: where it is, whose it is, who uses it."""

from __future__ import annotations

import bisect
import sys
import threading
import weakref
from collections import Counter
from typing import Any

import numpy as np

from cupy import _order, _state, _surface
from cupy._errors import CUDARuntimeError

ALIGNMENT = 512  # bytes, of CuPy's pool
HOST = -1  # the device of pinned memory
_UNWRITTEN = 0xFF

_lock = threading.RLock()
_starts: list[int] = []
_alive: dict[int, weakref.ref[Memory]] = {}
# Bytes in use on each card, and the most that were since its pool was last emptied.
_used: Counter[int] = Counter()
_most: Counter[int] = Counter()


class Memory:
    """`size` bytes, taken on the current stream of the current card or, pinned, of the host."""

    def __init__(self, size: int, device: int | None = None) -> None:
        self.device = _state.device() if device is None else device
        self.size = size
        self.home = _state.line()
        self.uses = _order.Uses()
        room = np.empty(size + ALIGNMENT, np.uint8)
        skip = -room.ctypes.data % ALIGNMENT
        room[skip : skip + size] = _UNWRITTEN
        # A plain array over the bytes: the end of every chain of views.
        self.bytes = np.ndarray((size,), np.uint8, memoryview(room)[skip : skip + size])
        self.ptr = self.bytes.ctypes.data if size else 0
        if size:
            with _lock:
                bisect.insort(_starts, self.ptr)
                _alive[self.ptr] = weakref.ref(self)
                _used[self.device] += size
                _most[self.device] = max(_most[self.device], _used[self.device])

    def __del__(self, is_ending: Any = sys.is_finalizing) -> None:
        if is_ending() or not getattr(self, "ptr", 0):
            return
        if self.device != HOST:
            self.uses.freed(self.home, self.size)
        with _lock:
            del _starts[bisect.bisect_left(_starts, self.ptr)]
            del _alive[self.ptr]
            _used[self.device] -= self.size

    def array(self, shape: tuple[int, ...], dtype: np.dtype, strides: Any = None) -> np.ndarray:
        """These bytes as an array of the host's."""
        return np.ndarray(shape, dtype, self.bytes, strides=strides)


class MemoryPointer:
    """An address on a card."""

    def __init__(self, mem: Memory, offset: int) -> None:
        self.mem = mem
        self.ptr = mem.ptr + offset if mem.size else 0

    @property
    def device_id(self) -> int:
        return self.mem.device


class PinnedMemoryPointer:
    """An address in memory of the host that cards reach."""

    def __init__(self, mem: Memory, offset: int) -> None:
        self.mem = mem
        self.ptr = mem.ptr + offset

    def size(self) -> int:
        return self.mem.size


class MemoryPool:
    """CuPy's pool of the current card."""

    @_surface.like("cupy.cuda.MemoryPool")
    def __init__(self) -> None:
        pass

    def used_bytes(self) -> int:
        return _used[_state.device()]

    def total_bytes(self) -> int:
        return _most[_state.device()]

    def free_bytes(self) -> int:
        return self.total_bytes() - self.used_bytes()

    def free_all_blocks(self, stream: Any = None) -> None:
        _most[_state.device()] = self.used_bytes()


def alloc_pinned_memory(size: int) -> PinnedMemoryPointer:
    """Memory of the host that streams copy from and to while the host goes on."""
    return PinnedMemoryPointer(Memory(size, HOST), 0)


def find(address: int, size: int) -> Memory:
    """The memory in which `size` bytes lie from `address` on; an error if they lie in none."""
    with _lock:
        at = bisect.bisect_right(_starts, address) - 1
        memory = _alive[_starts[at]]() if at >= 0 else None
    if memory is None or address + size > memory.ptr + memory.size:
        raise CUDARuntimeError(700)
    return memory
