"""cupy.cuda.device."""

from __future__ import annotations

from typing import Any

from cupy import _order, _settings, _state
from cupy._errors import CUDARuntimeError

_MEMORY = (70 << 30, 80 << 30)  # free and all
_L2 = 50 << 20


class Device:
    """A card, as a context: current within the block."""

    def __init__(self, device: Any = None) -> None:
        self.id = _state.device() if device is None else int(device)
        if not 0 <= self.id < _settings.DEVICES:
            raise CUDARuntimeError(101)
        self._before: list[int] = []

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self) -> int:
        return self.id

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"

    def __enter__(self) -> Device:
        self._before.append(_state.device())
        _state.thread.device = self.id
        return self

    def __exit__(self, *args: Any) -> None:
        _state.thread.device = self._before.pop()

    def use(self) -> Device:
        _state.thread.device = self.id
        return self

    def synchronize(self) -> None:
        _order.wait_for_device(self.id)

    @property
    def compute_capability(self) -> str:
        return str(_settings.ARCH)

    @property
    def attributes(self) -> dict[str, int]:
        from cupy._launch import FREE_SHARED, most_shared

        return {
            "L2CacheSize": _L2,
            "MultiProcessorCount": 132,
            "ClockRate": 1980000,
            "MaxSharedMemoryPerBlock": FREE_SHARED,
            "MaxSharedMemoryPerBlockOptin": most_shared(),
            "MaxThreadsPerBlock": 1024,
        }

    @property
    def mem_info(self) -> tuple[int, int]:
        return _MEMORY


def get_cublas_handle() -> int:
    """The handle of the current card."""
    return _HANDLES + _state.device()


def get_compute_capability() -> str:
    return str(_settings.ARCH)


_HANDLES = 1000
