"""Counts units, connections, weights, operations, memory and receptive field of every layer.

The counts are those of the lecture notes: a unit is one output of a filter or of a pooling window,
a connection one input value that reaches one unit (padding included), weights are without biases,
operations are the multiply-adds of weights for one image. What acts on values one by one (an
activation, dropout, normalisation, a sum of branches) has no units of its own, but its result takes
memory.
"""

from __future__ import annotations

import functools
import math
import operator
from dataclasses import dataclass

from gpukit import layers
from gpukit.device import Device
from gpukit.errors import SettingError
from gpukit.graph.network import Network
from gpukit.layers.base import Layer
from gpukit.layers.pooling import Pooling2D

Pair = tuple[int, int]
# A layer that only renames axes makes nothing new; one that joins or acts value by value no units.
_RENAMING = (layers.Flatten, layers.Reshape, layers.InputLayer)
_VALUE_BY_VALUE = (
    layers.Activation,
    layers.ReLU,
    layers.LeakyReLU,
    layers.ELU,
    layers.Softmax,
    layers.Dropout,
    layers.BatchNormalization,
    layers.LocalResponseNormalization,
    layers.Add,
    layers.Concatenate,
    layers.ToDevice,
)
_BIASES = ("bias", "beta")


@dataclass(frozen=True)
class LayerSizes:
    """Figures of one layer for one image; `receptive_field` is (rows, columns) of the input.

    `fixed` counts values that no gradient changes: moving averages. `trainable` counts weights and
    biases that training changes, `frozen` all the others. The parameters of a layer that is used
    again are counted at its first use. `device` is where it is computed.
    """

    name: str
    kind: str
    device: str
    output_shape: tuple[int, ...]
    units: int
    connections: int
    weights: int
    biases: int
    fixed: int
    trainable: int
    frozen: int
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
        sizes = (n + (cells - 1) * jump for n, cells, jump in zip(self.size, span, self.jump))
        return _Field(_pair(sizes), _pair(map(operator.mul, self.jump, stride)))

    def joined(self, other: _Field) -> _Field:
        """What branches see together: the larger one, for they share their middle."""
        return _Field(
            _pair(map(max, self.size, other.size)), _pair(map(max, self.jump, other.jump))
        )


def sizes(model: Network) -> list[LayerSizes]:
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
    table: list[LayerSizes] = []
    counted: set[int] = set()
    where = model.placement()
    for layer, parents in model.graph():
        before = [shapes[i] if i >= 0 else tuple(n or 0 for n in input_shape[1:]) for i in parents]
        given = [(None, *s) for s in before]
        output = layer.compute_output_shape(given if len(given) > 1 else given[0])
        shape = tuple(n or 0 for n in output[1:])
        sources = [fields[i] if i >= 0 else seen for i in parents]
        field = _field(layer, functools.reduce(_Field.joined, sources), before[0], image)
        fields.append(field)
        shapes.append(shape)
        table.append(_figures(layer, where[len(table)], before[0], shape, field, image,
                              model.dtype.itemsize, first=id(layer) not in counted,
                              trained=model.trainable))  # fmt: skip
        counted.add(id(layer))
    return table


def _figures(
    layer: Layer,
    device: Device,
    before: tuple[int, ...],
    shape: tuple[int, ...],
    field: _Field,
    image: Pair,
    itemsize: int,
    *,
    first: bool,
    trained: bool,
) -> LayerSizes:
    values = 0 if isinstance(layer, _RENAMING) else math.prod(shape)
    units = 0 if isinstance(layer, _VALUE_BY_VALUE) else values
    weights = biases = fixed = trainable = 0
    for parameter in layer.parameters if first else ():
        if parameter.trainable and trained:
            trainable += parameter.size
        if not parameter.learned:
            fixed += parameter.size
        elif parameter.name.rpartition("/")[2] in _BIASES:
            biases += parameter.size
        else:
            weights += parameter.size
    connections = multiply_adds = 0
    kernel = next((p for p in layer.parameters if p.name.endswith("/kernel")), None)
    if isinstance(layer, Pooling2D):
        connections = units * math.prod(layer.pool_size)
    elif isinstance(layer, layers.GlobalAveragePooling2D):
        connections = math.prod(before)
    elif len(layer.with_inner()) > 1:
        connections = multiply_adds = sum(map(_of_inner, layer.with_inner()[1:]))
    elif kernel is not None:
        # Each unit has one connection for each weight of its filter: all axes but the last.
        connections = multiply_adds = units * math.prod(kernel.shape[:-1])
    return LayerSizes(
        name=layer.name,
        kind=type(layer).__name__,
        device=device.name,
        output_shape=shape,
        units=units,
        connections=connections,
        weights=weights,
        biases=biases,
        fixed=fixed,
        trainable=trainable,
        frozen=weights + biases + fixed - trainable,
        multiply_adds=multiply_adds,
        activation_bytes=values * itemsize,
        receptive_field=(min(field.size[0], image[0]), min(field.size[1], image[1])),
    )


def _of_inner(layer: Layer) -> int:
    """Multiply-adds of a layer that another one holds, for the shapes that it was built for."""
    kernel = next((p for p in layer.parameters if p.name.endswith("/kernel")), None)
    if kernel is None or len(layer.with_inner()) > 1:
        return 0
    units = math.prod(n or 0 for n in layer.built_shapes[1][1:])
    return units * math.prod(kernel.shape[:-1])


def _field(layer: Layer, before: _Field, shape: tuple[int, ...], image: Pair) -> _Field:
    """The field after `layer`, whose input has `shape` and sees `before`."""
    if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D)):
        span = tuple((f - 1) * d + 1 for f, d in zip(layer.kernel_size, layer.dilation_rate))
        return before.through(_pair(span), _pair(layer.strides))
    if isinstance(layer, Pooling2D):
        return before.through(_pair(layer.pool_size), _pair(layer.strides))
    # A Dense layer over images acts at each pixel by itself, as a 1×1 convolution does.
    if isinstance(layer, layers.GlobalAveragePooling2D) or (
        isinstance(layer, layers.Dense) and len(shape) == 1
    ):
        return _Field(image, before.jump)
    return before


def _pair(values: object) -> Pair:
    first, second = (int(v or 1) for v in values)  # type: ignore[attr-defined]
    return first, second
