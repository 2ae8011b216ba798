"""Which implementation computes each pass of an operation: its result, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpukit.autograd.tape import is_recording
from gpukit.core.config import show
from gpukit.device import Device, device_of
from gpukit.dispatch.preference import FromFile, absent, fell_back
from gpukit.dispatch.primitive import Primitive
from gpukit.errors import SettingError

Algo = str | Mapping[str, str] | None


def by_pass(what: str, passes: Mapping[str, Primitive], algo: Any, device: Device) -> Mapping:
    """The name of the implementation for each pass that has one chosen.

    `passes` are "forward", "input_grad" and "weight_grad"; `algo` is None, a name for all of them,
    or names by pass. Raises SettingError for names that `device` does not have.
    """
    if algo is None:
        return {}
    if isinstance(algo, str):
        found = {}
        for name, primitive in passes.items():
            if name == "forward" or primitive.find(device.kind, algo):
                found[name] = algo
            elif is_recording():
                _say_default(primitive, algo, device)
        return found
    if not isinstance(algo, Mapping):
        raise SettingError(f"{what}: algo={show(algo)}: use a name or a dict of names by pass")
    for name, chosen in algo.items():
        if name not in passes:
            raise SettingError(f"{what}: algo names the pass {name!r}; use {', '.join(passes)}")
        if (
            chosen is not None
            and not isinstance(chosen, FromFile)
            and (not isinstance(chosen, str) or not passes[name].find(device.kind, chosen))
        ):
            known = passes[name].implementations(device.kind)
            raise SettingError(
                f"{what}: no {name} algo {chosen!r} on {device.kind}; use {', '.join(known)}"
            )
    return algo


def gradient_by(
    algo: str | None, primitive: Primitive, gy: Any, *saved: Any, **settings: Any
) -> Any:
    """The gradient `primitive(gy, *saved, **settings)` by the implementation `algo`, if it has one.

    Else its default computes it, which is said once.
    """
    if algo is not None:
        device = device_of(gy)
        if primitive.find(device.kind, algo) is None:
            _say_default(primitive, algo, device)
            algo = None
    return primitive(gy, *saved, **settings, algo=algo)


def _say_default(primitive: Primitive, algo: str, device: Device) -> None:
    fell_back(primitive.name, algo, device.kind, "the default", absent(algo))
