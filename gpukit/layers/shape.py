"""Input layers, and layers that reshape values without changing them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np

from gpukit import ops
from gpukit.core.config import extends, show
from gpukit.errors import SettingError, ShapeError
from gpukit.layers.base import Layer, LayerOptions, register
from gpukit.layers.batch_shape import Shape, product, show_shape
from gpukit.layers.symbolic import Symbolic


@register
class InputLayer(Layer):
    """The entrance of a model: says what shape a sample has."""

    def __init__(
        self,
        input_shape: Sequence[int | None],
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, input_shape=input_shape, dtype=dtype)

    def output_shape(self, input_shape: Shape) -> Shape:
        assert self.input_shape is not None
        wanted = (None, *self.input_shape)
        if len(wanted) != len(input_shape) or any(
            a is not None and b is not None and a != b for a, b in zip(wanted, input_shape)
        ):
            raise ShapeError(f"needs {show_shape(wanted)}, got {show_shape(input_shape)}")
        return input_shape

    def call(self, inputs: Any, training: bool) -> Any:
        self.output_shape(tuple(inputs.shape))
        return inputs


def Input(shape: Sequence[int | None], name: str | None = None, dtype: Any = None) -> Symbolic:
    """The entrance of a functional model: samples of `shape`, without the batch."""
    layer = InputLayer(shape, name=name, dtype=dtype)
    if layer.input_shape is None:
        raise SettingError("Input: shape=None: use a tuple without the batch, (28, 28, 1)")
    return Symbolic((None, *layer.input_shape), layer)


@register
class Flatten(Layer):
    """(N, …) → (N, product of the rest)."""

    def output_shape(self, input_shape: Shape) -> Shape:
        if not input_shape:
            raise ShapeError("needs a batch (N, …), got a single number")
        return input_shape[0], product(input_shape[1:])

    def call(self, inputs: Any, training: bool) -> Any:
        return ops.flatten(inputs)


@register
class Reshape(Layer):
    """(N, …) → (N, *target_shape), in row-major order; one length may be -1."""

    @extends(Layer)
    def __init__(self, target_shape: Sequence[int], **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        lengths = target_shape if isinstance(target_shape, (tuple, list)) else (target_shape,)
        whole = all(isinstance(n, (int, np.integer)) and n >= -1 and n for n in lengths)
        if not whole or sum(n == -1 for n in lengths) > 1:
            raise SettingError(
                f"target_shape={show(target_shape)}: use whole numbers, at most one of them -1"
            )
        self.target_shape = tuple(int(n) for n in lengths)

    def output_shape(self, input_shape: Shape) -> Shape:
        size = product(input_shape[1:])
        if size is None:
            return (input_shape[0], *(None if n == -1 else n for n in self.target_shape))
        return (input_shape[0], *self._lengths(size))

    def call(self, inputs: Any, training: bool) -> Any:
        size = math.prod(inputs.shape[1:])
        return ops.reshape(inputs, shape=(inputs.shape[0], *self._lengths(size)))

    def _lengths(self, size: int) -> tuple[int, ...]:
        known = math.prod(n for n in self.target_shape if n != -1)
        if size % known or (-1 not in self.target_shape and size != known):
            raise ShapeError(f"samples of {size} values do not fit {self.target_shape}")
        return tuple(size // known if n == -1 else n for n in self.target_shape)
