"""Engines run kernels: CuPy on a card (kind "cuda"), or the emulator on the CPU (kind "emu").

An engine takes a checked `Call`. Backends enter what makes theirs into the registry (`makers`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np

from gpukit.device import Device
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
        """Its name in errors, and its place in the source."""
        return f"kernel {self.expression} ({self.declaration.place})"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return self.declaration.parameters

    @cached_property
    def converters(self) -> tuple[Converter, ...]:
        """The function that checks and converts each argument of a launch for engines."""
        return tuple(converter(p, d, self.title) for p, d in zip(self.parameters, self.dtypes))

    @cached_property
    def pointers(self) -> tuple[int, ...]:
        """The indices of array parameters."""
        return tuple(i for i, p in enumerate(self.parameters) if p.is_pointer)


class Call(NamedTuple):
    """One launch: arrays of the device (or None), NumPy scalars and structs, as parameters go."""

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


class Recorder:
    """An engine that writes launches down and runs nothing."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def launch(self, call: Call) -> None:
        self.calls.append(call)
