"""Dropout: sets random values to zero in training."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

from gpukit import ops
from gpukit.core.config import extends, flag, number, whole
from gpukit.layers.base import Layer, LayerOptions, register


@register
class Dropout(Layer):
    """Sets each value to 0 with probability `rate` in training; passes all at test time.

    Inverted: what is kept is divided by 1 - rate in training. `classic` multiplies by 1 - rate at
    test time instead. The mask depends on (seed, layer, step, element) only; `seed` (default: the
    model's) is for this layer. Srivastava et al., 2014.
    """

    keras_defaults: ClassVar = {**Layer.keras_defaults, "noise_shape": (None,)}

    @extends(Layer)
    def __init__(
        self,
        rate: float,
        seed: int | None = None,
        classic: bool = False,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.rate = number("rate", rate, low=0, below=1)
        self.classic = flag("classic", classic)
        self.seed = None if seed is None else whole("seed", seed, low=0)

    def call(self, inputs: Any, training: bool) -> Any:
        if self.rate == 0:
            return inputs
        if training:
            key = self.random_key()
            if self.seed is not None:
                key["seed"] = self.seed
            return ops.dropout(inputs, rate=self.rate, classic=self.classic, **key)
        return ops.multiply(inputs, 1 - self.rate) if self.classic else inputs
