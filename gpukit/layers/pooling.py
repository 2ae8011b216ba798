"""Pooling layers: each channel of an image (N, H, W, C) by itself, no parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Unpack

from gpukit import ops
from gpukit.core.config import extends, flag
from gpukit.layers.base import Layer, LayerOptions, register
from gpukit.layers.batch_shape import Shape
from gpukit.layers.windowed import checked_padding, strictness, window_outputs
from gpukit.primitives import geometry


class Pooling2D(Layer):
    """A window of `pool_size` that moves by `strides` (default: its own size).

    `padding` as for Conv2D, smaller than the window; `strict` refuses windows that do not tile the
    input exactly (None: as `gpukit.strict` says).
    """

    rank = 4
    axes = "(N, H, W, C)"
    pool: Callable[..., Any]  # the operation

    @extends(Layer)
    def __init__(
        self,
        pool_size: Any = (2, 2),
        strides: Any = None,
        padding: Any = "valid",
        strict: bool | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.pool_size = geometry.as_pair(pool_size, "pool_size")
        self.strides = self.pool_size if strides is None else geometry.as_pair(strides, "strides")
        self.padding = checked_padding(padding)
        self.strict = None if strict is None else flag("strict", strict)

    def output_shape(self, input_shape: Shape) -> Shape:
        rows, columns = window_outputs(
            input_shape,
            self.pool_size,
            stride=self.strides,
            padding=self.padding,
            strict=self.strict,
            pool=True,
        )
        return input_shape[0], rows, columns, input_shape[3]

    @property
    def settings(self) -> dict[str, Any]:
        """The window, as operations take it."""
        return {"window": self.pool_size, "stride": self.strides, "padding": self.padding}

    def call(self, inputs: Any, training: bool) -> Any:
        with strictness(self.strict):
            return self.pool(inputs, **self.settings)


@register
class MaxPooling2D(Pooling2D):
    """The largest value of each window; at ties the first cell gets the gradient."""

    pool = staticmethod(ops.max_pool2d)


@register
class AveragePooling2D(Pooling2D):
    """The mean of each window; padding is not counted."""

    pool = staticmethod(ops.avg_pool2d)


@register
class GlobalAveragePooling2D(Layer):
    """The mean over height and width: (N, H, W, C) → (N, C)."""

    keras_defaults: ClassVar = {**Layer.keras_defaults, "keepdims": (False,)}

    rank = 4
    axes = "(N, H, W, C)"

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape[0], input_shape[3]

    def call(self, inputs: Any, training: bool) -> Any:
        return ops.global_avg_pool2d(inputs)
