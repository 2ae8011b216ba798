"""Counts units, connections, weights, operations, memory and receptive field of every layer.

The counts are those of the lecture notes: a connection is one input value that reaches one unit,
weights are without biases, operations are multiply-adds for one image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpukit import layers
from gpukit.errors import SettingError
from gpukit.layers.base import Layer
from gpukit.layers.pooling import Pooling2D

if TYPE_CHECKING:
    from gpukit.models.base import Base

Pair = tuple[int, int]
_RENAMING = (layers.Flatten, layers.Reshape, layers.InputLayer)


@dataclass(frozen=True)
class LayerSizes:
    """Figures of one layer for one image; `receptive_field` is (rows, columns) of the input."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    units: int
    connections: int
    weights: int
    biases: int
    multiply_adds: int
    activation_bytes: int
    receptive_field: Pair


@dataclass(frozen=True)
class _Field:
    """Pixels that one output sees, and pixels between neighbouring outputs."""

    size: Pair
    jump: Pair

    def through(self, span: Pair, stride: Pair) -> _Field:
        """After a window of `span` cells at `stride`."""
        return _Field(
            (
                self.size[0] + (span[0] - 1) * self.jump[0],
                self.size[1] + (span[1] - 1) * self.jump[1],
            ),
            (self.jump[0] * stride[0], self.jump[1] * stride[1]),
        )


def sizes(model: Base) -> list[LayerSizes]:
    """Figures of every layer of a built model, in order. Raises SettingError where not built."""
    input_shape = model.input_shape
    if input_shape is None or None in input_shape[1:]:
        raise SettingError(
            f"{model.name} has no fixed input shape yet; give its first layer an input_shape"
        )
    image = _pair(input_shape[1:3]) if len(input_shape) == 4 else (1, 1)
    seen = _Field((1, 1), (1, 1))
    fields: list[_Field] = []
    shapes: list[tuple[int, ...]] = []
    table = []
    counted: set[int] = set()
    for layer, parents in model.graph():
        before = [shapes[i] if i >= 0 else tuple(n or 0 for n in input_shape[1:]) for i in parents]
        given = [(None, *s) for s in before]
        output = layer.compute_output_shape(given if len(given) > 1 else given[0])
        shape = tuple(n or 0 for n in output[1:])
        sources = [fields[i] if i >= 0 else seen for i in parents]
        widest = max(sources, key=lambda f: f.size)
        field = _field(layer, widest, before[0], image)
        fields.append(field)
        shapes.append(shape)
        table.append(_figures(layer, before[0], shape, field, image, model.dtype.itemsize,
                              first=id(layer) not in counted))  # fmt: skip
        counted.add(id(layer))
    return table


def _figures(
    layer: Layer,
    before: tuple[int, ...],
    shape: tuple[int, ...],
    field: _Field,
    image: Pair,
    itemsize: int,
    *,
    first: bool,
) -> LayerSizes:
    # A layer that only renames axes has no units of its own.
    units = 0 if isinstance(layer, _RENAMING) else math.prod(shape)
    by_name = {p.name.rsplit("/", 1)[-1]: p.size for p in layer.parameters} if first else {}
    biases = by_name.pop("bias", 0)
    connections = multiply_adds = 0
    kernel = next((p for p in layer.parameters if p.name.endswith("/kernel")), None)
    if isinstance(layer, Pooling2D):
        connections = units * math.prod(layer.pool_size)
    elif isinstance(layer, layers.GlobalAveragePooling2D):
        connections = math.prod(before)
    elif kernel is not None:
        # Each unit has one connection for each weight of its filter: all axes but the last,
        # or all but the last two for depthwise filters (R, S, C, multiplier).
        filters = 2 if isinstance(layer, layers.DepthwiseConv2D) else 1
        connections = multiply_adds = units * math.prod(kernel.shape[:-filters])
    return LayerSizes(
        name=layer.name,
        kind=type(layer).__name__,
        output_shape=shape,
        units=units,
        connections=connections,
        weights=sum(by_name.values()),
        biases=biases,
        multiply_adds=multiply_adds,
        activation_bytes=units * itemsize,
        receptive_field=(min(field.size[0], image[0]), min(field.size[1], image[1])),
    )


def _field(layer: Layer, before: _Field, shape: tuple[int, ...], image: Pair) -> _Field:
    if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D)):
        span = tuple((f - 1) * d + 1 for f, d in zip(layer.kernel_size, layer.dilation_rate))
        return before.through(_pair(span), _pair(layer.strides))
    if isinstance(layer, Pooling2D):
        return before.through(_pair(layer.pool_size), _pair(layer.strides))
    if isinstance(layer, (layers.Dense, layers.GlobalAveragePooling2D)):
        return _Field(image, before.jump)
    return before


def _pair(values: object) -> Pair:
    first, second = (int(v or 1) for v in values)  # type: ignore[attr-defined]
    return first, second
