"""Fully connected layers."""

from __future__ import annotations

import math
from typing import Any, Unpack

from gpukit import ops
from gpukit.core.config import extends, whole
from gpukit.errors import ShapeError
from gpukit.layers.base import register
from gpukit.layers.batch_shape import Shape, show_shape
from gpukit.layers.weighted import WeightedLayer, WeightOptions


@register
class Dense(WeightedLayer):
    """φ(x·W + b) over the last axis: (N, …, in) → (N, …, units); weights (in, units)."""

    @extends(WeightedLayer)
    def __init__(
        self,
        units: int,
        activation: Any = None,
        **options: Unpack[WeightOptions],
    ) -> None:
        super().__init__(activation, **options)
        self.units = whole("units", units)

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) < 2:
            raise ShapeError(
                f"needs (N, …, features), got {show_shape(input_shape)}; add a batch axis, x[None]"
            )
        if input_shape[-1] is None:
            raise ShapeError(f"the last length of {show_shape(input_shape)} must be known")
        return (*input_shape[:-1], self.units)

    def create_parameters(self, input_shape: Shape) -> None:
        features = input_shape[-1]
        assert features is not None
        self.add_weights(features, (features, self.units))

    def weigh(self, inputs: Any, activation: str | None) -> Any:
        shape = tuple(inputs.shape)
        if len(shape) == 2:
            return self._dense(inputs, activation)
        rows = ops.reshape(inputs, shape=(math.prod(shape[:-1]), shape[-1]))
        return ops.reshape(self._dense(rows, activation), shape=(*shape[:-1], self.units))

    def _dense(self, rows: Any, activation: str | None) -> Any:
        return ops.dense(rows, self.kernel, self.bias, activation=activation, algo=self.algo)
