"""Cards cuda:0 …, whose arrays are CuPy's, and whether this machine has any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any

import numpy as np

from gpukit.device.base import Device, on_host


class CudaDevice(Device):
    """`cuda:0` …: a card."""

    __slots__ = ()
    kind = backend = "cuda"
    runs_kernels = True
    in_host_memory = False

    @classmethod
    def holding(cls, array: Any) -> Device:
        """The card that an array of CuPy's is on."""
        index = array.device.id
        return cls._made.get(index) or cls.at(index)

    def empty(self, shape: Sequence[int], dtype: Any = np.float32) -> Any:
        with self.current():
            return _cupy().empty(tuple(shape), dtype)

    def zeros(self, shape: Sequence[int], dtype: Any = np.float32) -> Any:
        with self.current():
            return _cupy().zeros(tuple(shape), dtype)

    def asarray(self, array: Any) -> Any:
        if hasattr(array, "__cuda_array_interface__") and self.holding(array) is self:
            return array
        array = on_host(array)
        with self.current():
            return _cupy().asarray(array)

    def receive(self, array: Any) -> Any:
        home = self.holding(array) if hasattr(array, "__cuda_array_interface__") else self
        if home is self:
            return self.asarray(array)
        from gpukit.device import transfer

        return transfer.copy(array, home, self)

    def run(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
        with self.current():
            return super().run(function, args, kwargs)

    def current(self) -> AbstractContextManager[Any]:
        return _cupy().cuda.Device(self.index)

    def synchronize(self) -> None:
        _cupy().cuda.Device(self.index).synchronize()


def _cupy() -> Any:
    import cupy

    return cupy


@lru_cache(maxsize=1)
def probe() -> tuple[int, str]:
    """How many cards CuPy can use, and where there is none, why.

    Only here is CuPy imported without a device of kind "cuda".
    """
    try:
        import cupy
    except ImportError:
        return 0, "CuPy is not installed"
    try:
        if cupy.cuda.is_available():
            return int(cupy.cuda.runtime.getDeviceCount()), ""
        return 0, "CuPy found no NVIDIA GPU or driver"
    except Exception as error:
        return 0, f"the CUDA driver does not answer ({error})"
