"""Model: a graph of layers between given inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple
from typing import Any, Self

from gpukit import layers as layer_family
from gpukit.core.config import described
from gpukit.device import Device, get_device
from gpukit.errors import SettingError
from gpukit.layers import Input, ToDevice
from gpukit.layers.base import Layer
from gpukit.layers.batch_shape import Shape
from gpukit.layers.shard import Shard
from gpukit.layers.symbolic import Symbolic, one_device
from gpukit.model.adoption import adopt
from gpukit.model.saving import Base, Devices, Structure


class Model(Base):
    """The layers between `inputs` and `outputs`, which come from `Input(shape)` and calls on it:

        a = Input((32, 32, 3))
        b = Conv2D(8, 3, padding="same")(a)
        model = Model(a, Add()([a, Conv2D(3, 1)(b)]))

    One input and one output; a layer that is called twice shares its parameters. The input is on
    `device`, a layer on the device of its inputs; `ToDevice` takes values from one to another.
    `places` says of each ToDevice, by name, the number of its device in the list that
    `load_model(path, devices=…)` takes, by default its number in `model.devices`: it keeps two
    columns apart that share a device for now.
    """

    kind = "Model"

    def __init__(
        self,
        inputs: Symbolic,
        outputs: Symbolic,
        name: str | None = None,
        device: str | Device | None = None,
        dtype: Any = "float32",
        seed: int | None = None,
        places: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(name, device, dtype, seed)
        self._places = dict(places or {})
        self._inputs = inputs = _one(self.name, "inputs", inputs)
        self._outputs = outputs = _one(self.name, "outputs", outputs)
        self._order = _between(self.name, inputs, outputs)
        if not self._order:
            raise SettingError(f"{self.name}: outputs are the inputs; there is no layer between")
        for node in self._order:
            device = self.device_of(node)
            if not isinstance(node.layer, ToDevice):
                with node.layer.naming_errors():
                    one_device([*map(self.device_of, node.inputs)])
            if node.layer not in self.layers:
                adopt(self, node.layer, device)
            elif node.layer.parameters and node.layer.device is not device:
                raise SettingError(
                    f"{self.name}: {node.layer.label} is used on {node.layer.device} and on "
                    f"{device}; make a layer for each, its parameters are on one device"
                )
            self._build_layer(node.layer, _shapes(node), device)

    @property
    def input_shape(self) -> Shape | None:
        return self._inputs.shape

    @property
    def output_shape(self) -> Shape | None:
        return self._outputs.shape

    @property
    def last_layer(self) -> Layer:
        return self._outputs.layer

    def device_of(self, node: Symbolic) -> Device:
        """Where `node` of this model's graph is computed."""
        return node.device or self.device

    @property
    def devices(self) -> tuple[Device, ...]:
        used = [self.device, *map(self.device_of, self._order)]
        return tuple(dict.fromkeys(used))

    @property
    def output_device(self) -> Device:
        return self.device_of(self._outputs)

    def placement(self) -> list[Device]:
        return [self.device_of(node) for node in self._order]

    def graph(self) -> list[tuple[Layer, list[int]]]:
        places = {id(node): i for i, node in enumerate([self._inputs, *self._order], start=-1)}
        return [(node.layer, [places[id(p)] for p in node.inputs]) for node in self._order]

    def modes(self) -> list[bool | None]:
        return [node.training for node in self._order]

    def structure(self) -> Structure:
        assert self.input_shape is not None
        configs = []
        for layer in self.layers:
            config = described(layer)
            if isinstance(layer, ToDevice):
                own = self.devices.index(layer.device)
                config["place"] = self._places.get(layer.name, own)
                del config["device"]
            configs.append(config)
        return {
            "input_shape": list(self.input_shape[1:]),
            "layers": configs,
            "parts": {
                layer.name: list(astuple(layer.shard))
                for layer in self.layers
                if layer.shard is not None
            },
            "nodes": [
                {"layer": layer.name, "inputs": inputs}
                | ({} if mode is None else {"training": mode})
                for (layer, inputs), mode in zip(self.graph(), self.modes())
            ],
        }

    @classmethod
    def places(cls, structure: Structure) -> int:
        named = [c["place"] for c in structure["layers"] if c["class"] == ToDevice.__name__]
        if any(place not in range(1 + len(named)) for place in named):
            raise ValueError(f"{len(named)} crossings to the places {named}")
        return 1 + max(named, default=0)

    @classmethod
    def from_structure(cls, structure: Structure, devices: Devices = None, **settings: Any) -> Self:
        devices = devices or [None] * cls.places(structure)
        made, places = {}, {}
        for config in structure["layers"]:
            if config["class"] == ToDevice.__name__:
                config = {**config}
                place = places[config["name"]] = config.pop("place")
                config["device"] = get_device(devices[place])
            made[config["name"]] = layer_family.from_config(config)
        for name, shard in structure.get("parts", {}).items():
            made[name].shard = Shard(*shard)
        values = [Input(tuple(structure["input_shape"]))]
        for node in structure["nodes"]:
            inputs = [values[i + 1] for i in node["inputs"]]
            layer, given = made[node["layer"]], inputs if len(inputs) > 1 else inputs[0]
            values.append(layer(given, training=node.get("training")))
        return cls(values[0], values[-1], device=devices[0], places=places, **settings)


def _one(name: str, what: str, value: Any) -> Symbolic:
    """The one end of a model, also where it comes as Keras's list of one."""
    if isinstance(value, (list, tuple)):
        if len(value) != 1:
            raise SettingError(
                f"{name} was given {len(value)} {what}; a Model has one: join several with "
                "Concatenate, or train one model for each"
            )
        value = value[0]
    if not isinstance(value, Symbolic):
        raise SettingError(
            f"{name}: {what} must be the result of Input(shape) or of a layer called on one, not "
            f"{type(value).__name__}"
        )
    return value


def _shapes(node: Symbolic) -> Any:
    shapes = [parent.shape for parent in node.inputs]
    return shapes if len(shapes) > 1 else shapes[0]


def _between(name: str, inputs: Symbolic, outputs: Symbolic) -> list[Symbolic]:
    """Every node from after `inputs` to `outputs`, parents first."""
    order: list[Symbolic] = []
    seen = {id(inputs)}
    stack = [(outputs, False)]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif id(node) not in seen:
            if not node.inputs:
                raise SettingError(
                    f"{name}: outputs need {node.layer.label}, an Input that is not the model's; "
                    "give the one that they are made of as inputs"
                )
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((parent, False) for parent in reversed(node.inputs))
    return order
