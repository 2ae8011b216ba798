"""Values without numbers: the nodes of a model's graph, as layers make them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpukit.core.config import flag
from gpukit.device import Device
from gpukit.errors import DeviceError, DTypeError
from gpukit.layers.batch_shape import Shape, show_shape

Layer = Any  # gpukit.layers.base.Layer, which imports this file


class Symbolic:
    """The output of `layer` applied to `inputs`, without values: a node of a model's graph.

    `device` is where it will be computed; None stands for the model's own device. `training`, where
    it is not None, is what the layer is called with whatever the model does.
    """

    __slots__ = ("device", "inputs", "layer", "shape", "training")

    def __init__(
        self,
        shape: Shape,
        layer: Layer,
        inputs: tuple[Symbolic, ...] = (),
        device: Device | None = None,
        training: bool | None = None,
    ) -> None:
        self.shape = shape
        self.layer = layer
        self.inputs = inputs
        self.device = device
        self.training = training

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __repr__(self) -> str:
        where = "" if self.device is None else f" on {self.device}"
        return f"<Symbolic {show_shape(self.shape)} from {self.layer.label}{where}>"


def use_of(layer: Layer, inputs: Any, training: bool | None) -> Symbolic:
    """The output of `layer` called on symbolic `inputs`, which keeps `training` if not None."""
    with layer.naming_errors():
        training = None if training is None else flag("training", training)
    if isinstance(inputs, Symbolic):
        shape = layer.compute_output_shape(inputs.shape)
        return Symbolic(shape, layer, (inputs,), inputs.device, training)
    with layer.naming_errors():
        for x in inputs:
            if not isinstance(x, Symbolic):
                raise DTypeError(f"got {type(x).__name__} beside symbolic inputs; make it an Input")
        device = one_device([x.device for x in inputs if x.device is not None])
    shape = layer.compute_output_shape([x.shape for x in inputs])
    return Symbolic(shape, layer, tuple(inputs), device, training)


def one_device(devices: Sequence[Device]) -> Device | None:
    """The device that all of a layer's inputs are on; None for an empty list."""
    for other in devices[1:]:
        if other is not devices[0]:
            raise DeviceError(
                f"has inputs on {devices[0]} and on {other}; bring them together with "
                f"ToDevice({devices[0].name!r})"
            )
    return devices[0] if devices else None
