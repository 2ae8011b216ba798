"""ToDevice: copies values from one device to another inside a model."""

from __future__ import annotations

from typing import Any

from gpukit import ops
from gpukit.device import Device, get_device
from gpukit.layers.base import Layer, register
from gpukit.layers.symbolic import Symbolic


@register
class ToDevice(Layer):
    """Its input, copied to `device`; the gradient is copied back. No parameters.

    Layers called on its output are on `device` too, up to the next crossing. Raises DeviceError
    where there is no such device.
    """

    takes_stream = False

    def __init__(self, device: str | Device, name: str | None = None) -> None:
        super().__init__(name=name)
        with self.naming_errors():
            self.device: Device = get_device(device)

    def get_config(self) -> dict[str, Any]:
        return {"class": type(self).__name__, "device": self.device.name, "name": self.name}

    def build(self, input_shape: Any, device: Any = None, *rest: Any, **named: Any) -> None:
        super().build(input_shape, self.device, *rest, **named)

    def _symbolic(self, inputs: Any, training: bool | None) -> Symbolic:
        node = super()._symbolic(inputs, training)
        node.device = self.device
        return node

    def call(self, inputs: Any, training: bool) -> Any:
        return ops.to_device(inputs, self.device)
