"""Sequential: a chain of layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Self

from gpukit import layers as layer_family
from gpukit.core.config import described, show
from gpukit.device import Device
from gpukit.errors import GpukitError, SettingError
from gpukit.layers import ToDevice
from gpukit.layers.base import BUILDING, Layer
from gpukit.layers.batch_shape import Shape, batch_shape
from gpukit.layers.symbolic import Symbolic
from gpukit.model.adoption import adopt
from gpukit.model.saving import Base, Devices, Structure


class Sequential(Base):
    """Layers one after the other: `Sequential([…])`, or `add` one by one.

    The first layer's `input_shape` (without the batch) lets the model be built at once; otherwise
    it is built by the first data that it meets.
    """

    kind = "Sequential"

    def __init__(
        self,
        layers: Iterable[Layer | Symbolic] | None = None,
        name: str | None = None,
        device: str | Device | None = None,
        dtype: Any = "float32",
        seed: int | None = None,
    ) -> None:
        super().__init__(name, device, dtype, seed)
        self._input_shape: Shape | None = None
        self._output_shape: Shape | None = None
        if isinstance(layers, Layer):
            raise SettingError("Sequential takes a list of layers: Sequential([first, second])")
        if layers is not None and not isinstance(layers, (list, tuple, Iterator)):
            raise SettingError(f"Sequential takes a list of layers, got {show(layers)}")
        for layer in layers or ():
            self.add(layer)

    @property
    def input_shape(self) -> Shape | None:
        return self._input_shape

    @property
    def output_shape(self) -> Shape | None:
        return self._output_shape

    @property
    def last_layer(self) -> Layer:
        if not self.layers:
            raise SettingError(f"{self.name} has no layers; add some")
        return self.layers[-1]

    def add(self, layer: Layer | Symbolic) -> None:
        """Append `layer`."""
        if isinstance(layer, Symbolic):  # Input(shape), as Keras 3 begins a chain
            layer = layer.layer
        if not isinstance(layer, Layer):
            raise SettingError(f"{self.name}: {show(layer)} is no layer; pass one of gpukit.layers")
        if any(layer is other for other in self.layers):
            raise SettingError(
                f"{self.name} holds {layer.label} already; make another one, or a Model, whose "
                "layers may be used twice"
            )
        if isinstance(layer, ToDevice):
            raise SettingError(f"{self.name} is on one device; {layer.label} needs a Model")
        adopt(self, layer, self.device)
        try:
            if self._input_shape is not None:
                self._extend(layer)
            elif len(self.layers) == 1 and layer.input_shape is not None:
                self.build((None, *layer.input_shape))
        except GpukitError:
            self.layers.pop()
            raise

    def build(self, input_shape: Shape) -> None:
        """Make the parameters for inputs of `input_shape`, the batch axis None."""
        with BUILDING:
            if self._input_shape is not None:
                super().build(input_shape)
            if not self.layers:
                raise SettingError(f"{self.name} has no layers; add some")
            shape = self._output_shape = batch_shape(input_shape)
            try:
                for layer in self.layers:
                    self._extend(layer)
            except GpukitError:
                # Whatever did not fit, the next input is a fresh start for what is not built yet.
                self._output_shape = None
                raise
            self._input_shape = shape  # the last: other threads take it for the sign of the end

    def _extend(self, layer: Layer) -> None:
        assert self._output_shape is not None
        shape = self._output_shape
        self._build_layer(layer, shape, self.device)
        self._output_shape = layer.compute_output_shape(shape)

    def forward(self, x: Any, training: bool | None, logits: bool) -> Any:
        if self._input_shape is None:
            with BUILDING:
                if self._input_shape is None:
                    self.build((None, *x.shape[1:]))
        return super().forward(x, training, logits)

    def graph(self) -> list[tuple[Layer, list[int]]]:
        return [(layer, [i - 1]) for i, layer in enumerate(self.layers)]

    def structure(self) -> Structure:
        shape = self._input_shape
        return {
            "input_shape": None if shape is None else list(shape[1:]),
            "layers": [described(layer) for layer in self.layers],
        }

    @classmethod
    def from_structure(cls, structure: Structure, devices: Devices = None, **settings: Any) -> Self:
        layers = [layer_family.from_config(c) for c in structure["layers"]]
        model = cls(layers, device=devices[0] if devices else None, **settings)
        shape = structure["input_shape"]
        if shape is not None and model.input_shape is None:
            model.build((None, *shape))
        return model
