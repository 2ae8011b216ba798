"""What runs kernels: a card by CuPy (kind "cuda"), or the emulator on the CPU (kind "emu").

An engine takes a checked `Call`. Backends register theirs when they load.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np

from gpukit.device import Device
from gpukit.dispatch.primitive import load_backend
from gpukit.errors import DeviceError
from gpukit.launch.arguments import Converter, converter
from gpukit.launch.sources import Declaration, Instance, Parameter, Source


@dataclass(frozen=True, eq=False)
class Bound:
    """An instance of a kernel: its source, its name in C++, and the dtype of every parameter.

    A Kernel makes one for each choice of template arguments and keeps it: what belongs to an
    instance (converters here, compiled functions in engines) is kept by the Bound's identity.
    """

    source: Source
    declaration: Declaration
    instance: Instance
    dtypes: tuple[np.dtype, ...]

    @cached_property
    def expression(self) -> str:
        return self.instance.expression

    @cached_property
    def title(self) -> str:
        """What errors call it, and where it stands."""
        return f"kernel {self.expression} ({self.declaration.place})"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return self.declaration.parameters

    @cached_property
    def converters(self) -> tuple[Converter, ...]:
        """What checks each argument of a launch and makes of it what engines take."""
        return tuple(converter(p, d, self.title) for p, d in zip(self.parameters, self.dtypes))

    @cached_property
    def pointers(self) -> tuple[int, ...]:
        """The places of arrays among the parameters."""
        return tuple(i for i, p in enumerate(self.parameters) if p.is_pointer)


class Call(NamedTuple):
    """One launch: arrays of the device (or None) and NumPy scalars in the order of parameters."""

    bound: Bound
    device: Device
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    arguments: tuple[Any, ...]
    shared: int


class Engine(Protocol):
    """Runs kernels on one kind of device."""

    def launch(self, call: Call) -> None:
        """Run it, or give it to the device's stream."""


_makers: dict[str, Callable[[], Engine]] = {}
_engines: dict[str, Engine] = {}


def register(kind: str, make: Callable[[], Engine]) -> None:
    """Enter the engine of a kind of device, in place of an earlier one; made at first use."""
    _makers[kind] = make
    _engines.pop(kind, None)


@contextmanager
def instead(kind: str, engine: Engine) -> Iterator[None]:
    """Within the block, launches on devices of a kind go to `engine`."""
    before = _engines.get(kind)
    _engines[kind] = engine
    try:
        yield
    finally:
        _engines.pop(kind)
        if before is not None:
            _engines[kind] = before


def engine_of(device: Device) -> Engine:
    """The engine that runs kernels on `device`."""
    found = _engines.get(device.kind)
    if found is None:
        load_backend(device.kind)
        if device.kind not in _makers:
            raise DeviceError(f"{device} runs no CUDA kernels; use cuda or emu")
        found = _engines[device.kind] = _makers[device.kind]()
    return found
