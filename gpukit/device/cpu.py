"""The host, and its logical twins cpu:1 …, on which code for several devices runs on one CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpukit.device.base import Device, DeviceArray, on_host


class CpuDevice(Device):
    """`cpu`, where NumPy arrays are."""

    __slots__ = ()
    kind = backend = "cpu"

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.name = "cpu"

    def wrap(self, host: np.ndarray) -> np.ndarray:
        return host

    def asarray(self, array: Any) -> np.ndarray:
        if isinstance(array, np.ndarray):
            return array
        return array.data.copy() if isinstance(array, DeviceArray) else np.asarray(on_host(array))


class TwinDevice(Device):
    """`cpu:1` …: the implementations of the CPU, on arrays that are kept apart from the host's.

    A mistake that mixes devices fails the same way as on two cards.
    """

    __slots__ = ()
    kind = backend = "cpu"

    def wrap(self, host: np.ndarray) -> DeviceArray:
        return DeviceArray(host, self)

    def asarray(self, array: Any) -> DeviceArray:
        if isinstance(array, DeviceArray) and array.device is self:
            return array
        return DeviceArray(np.asarray(on_host(array)).copy(), self)

    def operands(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(_data(a) for a in args)

    def run(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
        return self._wrapped(function(*args, **kwargs))

    def _wrapped(self, value: Any) -> Any:
        if isinstance(value, (np.ndarray, np.generic)):
            return DeviceArray(np.asarray(value), self)
        return tuple(map(self._wrapped, value)) if isinstance(value, tuple) else value


def _data(value: Any) -> Any:
    if isinstance(value, DeviceArray):
        return value.data
    return type(value)(map(_data, value)) if isinstance(value, (list, tuple)) else value


CPU = CpuDevice.at(0)
