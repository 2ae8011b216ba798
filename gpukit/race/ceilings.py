"""Measures what a device can do now: a matrix product, a copy; once a process, and again on doubt.

Before a result is refused the ceilings are measured again, several times, because another program
may have slowed the first measurement, and the highest figures count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpukit.device import CpuDevice, CudaDevice, Device, TwinDevice
from gpukit.errors import DeviceError
from gpukit.race import on_card, on_host
from gpukit.race.peaks import Ceilings

_SIDES = {CpuDevice: on_host, TwinDevice: on_host, CudaDevice: on_card}
_found: dict[str, Ceilings] = {}
Measure = Callable[[Device], Ceilings]


def ceilings(device: Device, measure: Measure | None = None) -> Ceilings:
    """Those of `device`, measured at the first call of a process."""
    if device.name not in _found:
        _found[device.name] = (measure or _measure)(device)
    return _found[device.name]


def measure_again(device: Device, measure: Measure | None, before: Ceilings) -> Ceilings:
    """The higher figures of those from before and of a new measurement, from now on."""
    _found[device.name] = before.highest((measure or _measure)(device))
    return _found[device.name]


def _measure(device: Device) -> Ceilings:
    found: Ceilings = side(device).measure(device)
    return found


def side(device: Device) -> Any:
    """on_card or on_host, the module that times what runs on a device; DeviceError on emu."""
    if type(device) not in _SIDES:
        raise DeviceError(
            f"{device} has no speed: it runs a card's kernels on the CPU, one thread of a block "
            "after another, so its times say nothing about a card's; race on --device cuda where "
            "there is one, or on cpu, and prove kernels here with gpukit kernels check"
        )
    return _SIDES[type(device)]
