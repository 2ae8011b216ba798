"""Fully connected layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gpukit import ops
from gpukit.core.config import whole
from gpukit.errors import ShapeError
from gpukit.layers.base import register
from gpukit.layers.batch_shape import Shape, show_shape
from gpukit.layers.weighted import Algo, WeightedLayer


@register
class Dense(WeightedLayer):
    """φ(x·W + b) over the last axis: (N, …, in) → (N, …, units); weights (in, units)."""

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        algo: Algo = None,
        name: str | None = None,
        input_shape: Sequence[int | None] | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            activation=activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            algo=algo,
            name=name,
            input_shape=input_shape,
            dtype=dtype,
        )
        with self.naming_errors():
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
