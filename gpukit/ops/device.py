"""Moving arrays between devices, the only way by which they get from one to another."""

from __future__ import annotations

from typing import Any

from gpukit.autograd import differentiable
from gpukit.autograd.results import operand
from gpukit.autograd.tape import CopyBack
from gpukit.device import Device, device_of, get_device

__all__ = ["to_device"]


@differentiable(integers=("x",))
def _move(x: Any, *, device: Device) -> Any:
    home = device_of(x)
    return device.receive(x), (CopyBack(home.receive),)


def to_device(x: Any, device: str | Device) -> Any:
    """A copy of x on `device`, whose gradient is copied back; x itself where it is there already.

    Between two cards both copies run beside what the cards compute.
    """
    target = get_device(device)
    here = device_of(operand("to_device", x))
    if here is target:
        return x
    return _move(x, device=target)
