"""Measures what a device can do now: a matrix product, a copy; once a process, and again on doubt.

Before a result is refused the ceilings are measured again, several times, because another program
may have slowed the first measurement, and the highest figures count.
"""

from __future__ import annotations

from collections.abc import Callable

from gpukit.device import Device
from gpukit.errors import DeviceError
from gpukit.race import on_card, on_host
from gpukit.race.peaks import Ceilings

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
    if device.kind == "emu":
        raise DeviceError(no_speed(device))
    return on_card.measure(device) if device.kind == "cuda" else on_host.measure()


def no_speed(device: Device) -> str:
    """Why nothing is timed on an emulated card."""
    return (
        f"{device} has no speed: it runs a card's kernels on the CPU, one thread of a block after "
        "another, so its times say nothing about a card's; race on --device cuda where there is "
        "one, or on cpu, and prove kernels here with gpukit kernels check"
    )
