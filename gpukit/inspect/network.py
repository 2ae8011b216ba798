"""The network as inspection sees it: layers, their connections, devices and plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from gpukit.device import Device
from gpukit.layers.base import Layer
from gpukit.layers.batch_shape import Shape


class Step(Protocol):
    """A step of a plan; `together` are the layers that it computes as one."""

    @property
    def together(self) -> tuple[Layer, ...]: ...


class Plan(Protocol):
    """The steps of a forward pass, in order."""

    @property
    def steps(self) -> Sequence[Step]: ...


class Network(Protocol):
    """A model of gpukit, or anything with the same members."""

    name: str
    dtype: np.dtype[Any]
    device: Device
    layers: list[Layer]

    @property
    def devices(self) -> Sequence[Device]: ...

    @property
    def input_shape(self) -> Shape | None: ...

    def graph(self) -> list[tuple[Layer, list[int]]]: ...

    def placement(self) -> list[Device]: ...

    def plan(self) -> Plan: ...
