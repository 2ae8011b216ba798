"""Layers that join several branches of a model."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np

from gpukit import ops
from gpukit.core.config import extends, show
from gpukit.errors import SettingError, ShapeError
from gpukit.layers.base import Layer, LayerOptions, register
from gpukit.layers.batch_shape import Shape, show_shape


class _Merge(Layer):
    """Takes a list of inputs."""

    def output_shape(self, input_shape: Shape) -> Shape:
        raise ShapeError(
            f"joins a list of inputs, got one of {show_shape(input_shape)}; pass [a, b]"
        )

    def call(self, inputs: Any, training: bool) -> Any:
        if not isinstance(inputs, (list, tuple)):
            self.output_shape(tuple(inputs.shape))
        self.output_shape_of_many([tuple(x.shape) for x in inputs])
        return self.join(list(inputs))

    def join(self, inputs: list[Any]) -> Any:
        raise NotImplementedError


@register
class Add(_Merge):
    """The sum of inputs of one shape: a skip connection's end."""

    def output_shape_of_many(self, input_shapes: list[Shape]) -> Shape:
        merged = list(input_shapes[0])
        for shape in input_shapes[1:]:
            if len(shape) != len(merged) or not all(map(_agree, merged, shape)):
                raise _differ(input_shapes, "the shapes must be equal")
            merged = [a if b is None else b for a, b in zip(merged, shape)]
        return tuple(merged)

    def join(self, inputs: list[Any]) -> Any:
        total = inputs[0]
        for x in inputs[1:]:
            total = ops.add(total, x)
        return total


@register
class Concatenate(_Merge):
    """Inputs side by side along `axis`, the channels by default."""

    takes_stream = False

    @extends(Layer)
    def __init__(self, axis: int = -1, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        if not isinstance(axis, (int, np.integer)) or isinstance(axis, bool) or axis == 0:
            raise SettingError(f"axis={show(axis)}: use a whole number, not 0 (the batch)")
        self.axis = int(axis)

    def output_shape_of_many(self, input_shapes: list[Shape]) -> Shape:
        ndim = len(input_shapes[0])
        if not -ndim < self.axis < ndim:
            raise ShapeError(f"axis={self.axis} does not exist in {show_shape(input_shapes[0])}")
        at = self.axis % ndim
        merged = list(input_shapes[0])
        for shape in input_shapes[1:]:
            if len(shape) != ndim or not all(
                i == at or _agree(a, b) for i, (a, b) in enumerate(zip(merged, shape))
            ):
                raise _differ(input_shapes, f"all lengths but that of axis {at} must be equal")
            joined, more = merged[at], shape[at]
            merged = [a if b is None else b for a, b in zip(merged, shape)]
            merged[at] = None if joined is None or more is None else joined + more
        return tuple(merged)

    def join(self, inputs: list[Any]) -> Any:
        return ops.concat(inputs, axis=self.axis)


def _agree(a: int | None, b: int | None) -> bool:
    return a is None or b is None or a == b


def _differ(shapes: list[Shape], rule: str) -> ShapeError:
    return ShapeError(f"cannot join {', '.join(map(show_shape, shapes))}: {rule}")
