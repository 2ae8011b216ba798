"""Moving arrays between devices, the only way by which they get from one to another."""

from __future__ import annotations

from typing import Any

from gpukit.autograd import Tensor, differentiable
from gpukit.device import Device, device_of, get_device, to_host


@differentiable(integers=("x",))
def _move(x: Any, *, device: Device) -> Any:
    home = device_of(x)
    return device.asarray(x), (home.asarray,)


def to_device(x: Any, device: str | Device) -> Any:
    """x on `device`; its gradient is copied back. Nothing happens where it already is."""
    target = get_device(device)
    here = x.device if isinstance(x, Tensor) else device_of(x)
    if here is target:
        return x
    return _move(x, device=target)


__all__ = ["to_device", "to_host"]
