"""Emulated cards emu:0 …: the kernels of a card, run on the CPU, on arrays in host memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpukit.device.base import Device, DeviceArray, on_host

ALIGNMENT = 256  # bytes; that of memory on a card, and on emu
UNWRITTEN = 0xFF  # every byte of new memory on emu: NaN, -1 for integers


class EmulatedDevice(Device):
    """`emu`: it runs the implementations for cards, unless they are `on(…, emulated=False)`."""

    __slots__ = ()
    kind = "emu"
    backend = "cuda"
    runs_kernels = True

    def wrap(self, host: np.ndarray) -> DeviceArray:
        return DeviceArray(host, self)

    def empty(self, shape: Sequence[int], dtype: Any = np.float32) -> DeviceArray:
        return DeviceArray(unwritten(shape, dtype), self)

    def zeros(self, shape: Sequence[int], dtype: Any = np.float32) -> DeviceArray:
        host = unwritten(shape, dtype)
        host.fill(0)
        return DeviceArray(host, self)

    def asarray(self, array: Any) -> DeviceArray:
        if isinstance(array, DeviceArray) and array.device is self:
            return array
        host = np.asarray(on_host(array))
        copy = unwritten(host.shape, host.dtype)
        np.copyto(copy, host)
        return DeviceArray(copy, self)


def unwritten(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """Host memory aligned like a card's and full of UNWRITTEN: what a kernel leaves out shows."""
    kind = np.dtype(dtype)
    size = int(np.prod(tuple(shape), dtype=np.int64)) * kind.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    skip = -memory.ctypes.data % ALIGNMENT
    memory = memory[skip : skip + size]
    memory.fill(UNWRITTEN)
    return memory.view(kind).reshape(tuple(shape))
