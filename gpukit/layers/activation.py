"""Activations: element by element, and softmax over the last axis."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar, Unpack

from gpukit import ops
from gpukit.core import registry
from gpukit.core.config import extends, number, show
from gpukit.errors import SettingError
from gpukit.layers.base import Layer, LayerOptions, register

# Slopes as Keras has them: 0.2 for the name, 0.3 for the layer.
ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    **{name: getattr(ops, name) for name in ops.activation.__all__},
    "exponential": ops.exp,
    "leaky_relu": functools.partial(ops.leaky_relu, slope=0.2),
    "log_softmax": ops.log_softmax,
    "softmax": ops.softmax,
}


def activation_name(spec: Any) -> Any:
    """The name of an activation given by name or as one of gpukit.ops; other functions as they are.

    None and "linear" are None. Raises SettingError.
    """
    if spec is None:
        return None
    if isinstance(spec, str):
        if spec == "linear":
            return None
        own = registry.given(spec) or registry.registered_function("gpukit.layers", spec)
        if own is not None:
            return own
        if spec.lower() not in ACTIVATIONS:
            known = ", ".join(["linear", *sorted(ACTIVATIONS)])
            raise SettingError(f"unknown activation {show(spec)}; use one of {known}")
        return spec.lower()
    for name, function in ACTIVATIONS.items():
        if spec is function:
            return name
    if not callable(spec):
        raise SettingError(f"activation={show(spec)}: use a name or a function of a Tensor")
    return spec


def get_activation(spec: Any) -> Callable[[Any], Any] | None:
    """The function for what `activation_name` gave."""
    return ACTIVATIONS[spec] if isinstance(spec, str) else spec


@register
class Activation(Layer):
    """An activation by name, or any function of a Tensor: shape unchanged."""

    @extends(Layer)
    def __init__(self, activation: Any, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.activation = activation_name(activation)
        self._function = get_activation(self.activation)

    @property
    def final_activation(self) -> str | None:
        return self.activation if isinstance(self.activation, str) else None

    def call_logits(self, inputs: Any, training: bool) -> Any:
        return inputs

    def call(self, inputs: Any, training: bool) -> Any:
        return inputs if self._function is None else self._function(inputs)


@register
class ReLU(Layer):
    """max(x, 0)."""

    keras_defaults: ClassVar = {
        **Layer.keras_defaults,
        "max_value": (None,),
        "negative_slope": (0, 0.0),
        "threshold": (0, 0.0),
    }

    def call(self, inputs: Any, training: bool) -> Any:
        return ops.relu(inputs)


@register
class LeakyReLU(Layer):
    """x where positive, negative_slope·x elsewhere."""

    @extends(Layer)
    def __init__(self, negative_slope: float = 0.3, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.negative_slope = number("negative_slope", negative_slope, low=0)

    def call(self, inputs: Any, training: bool) -> Any:
        return ops.leaky_relu(inputs, slope=self.negative_slope)


@register
class ELU(Layer):
    """x where positive, alpha·(exp(x) - 1) elsewhere. Clevert et al., 2015."""

    @extends(Layer)
    def __init__(self, alpha: float = 1.0, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.alpha = number("alpha", alpha, low=0)

    def call(self, inputs: Any, training: bool) -> Any:
        return ops.elu(inputs, alpha=self.alpha)


@register
class Softmax(Layer):
    """exp(x) / Σ exp(x) over the last axis."""

    keras_defaults: ClassVar = {**Layer.keras_defaults, "axis": (-1,)}

    @property
    def final_activation(self) -> str | None:
        return "softmax"

    def call_logits(self, inputs: Any, training: bool) -> Any:
        return inputs

    def call(self, inputs: Any, training: bool) -> Any:
        return ops.softmax(inputs)
