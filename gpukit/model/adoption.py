"""Adds layers to a model: names, devices, and streams of random numbers."""

from __future__ import annotations

from collections.abc import Sequence

from gpukit.device import Device
from gpukit.errors import SettingError
from gpukit.graph.network import Network
from gpukit.layers.base import Layer
from gpukit.model.shards import RESERVED


def adopt(model: Network, layer: Layer, device: Device) -> None:
    """Take `layer` in: a name of its own, the model's seed and step, a random stream.

    A layer of another model keeps what it has, and this model goes on with its seed and step.
    """
    if not hasattr(layer, "auto_named"):
        raise SettingError(
            f"{type(layer).__name__}'s __init__ does not call super().__init__(name=…) first"
        )
    taken = {other.name for other in model.layers}
    if layer.auto_named and layer.context is None:
        layer.rename(_unique(layer.name, taken))
    elif layer.name in taken:
        raise SettingError(f"{model.name} has two layers named {layer.name!r}; rename one")
    wholes = {other.shard.whole for other in model.layers if other.shard is not None}
    whole = set() if layer.shard is None else {layer.shard.whole}
    for name in wholes & {layer.name} | taken & whole:
        raise SettingError(
            f"{model.name}: checkpoints keep the shards of {name!r} under that name, which is "
            "another layer's; rename it"
        )
    for name in {layer.name} | whole:
        if name.partition("/")[0] in RESERVED:
            raise SettingError(
                f"{model.name}: a layer cannot be named {name!r}, which checkpoints use for "
                "something else; rename it"
            )
    if layer.built and layer.device is not device:
        raise SettingError(
            f"{model.name} is on {device}, its {layer.label} on {layer.device}; give them "
            "one device"
        )
    if layer.context is None:
        _number(model, layer, model.layers)
    elif layer.context is not model.context:
        if model.context is not model._own_context:
            raise SettingError(
                f"{model.name} shares layers with a model that {layer.label} is not of; share "
                "with one model only, or make new layers"
            )
        model.context = layer.context
        for i, other in enumerate(model.layers):
            _number(model, other, model.layers[:i])
    model.layers.append(layer)


def _number(model: Network, layer: Layer, before: Sequence[Layer]) -> None:
    """Give `layer` a stream of random numbers; shards of one layer share theirs."""
    layer.context = model.context
    for inner in layer.with_inner()[1:]:
        if inner.context is not model.context:
            inner.join_context(model.context)
    if not layer.takes_stream:
        return
    for other in before:
        if layer.shard and other.shard and layer.shard.whole == other.shard.whole:
            layer.stream = other.stream
            return
    layer.stream = model.context.new_stream()


def _unique(base: str, taken: set[str]) -> str:
    if base not in taken:
        return base
    number = 1
    while f"{base}_{number}" in taken:
        number += 1
    return f"{base}_{number}"
