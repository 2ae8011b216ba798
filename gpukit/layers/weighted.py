"""The base of layers with a kernel: bias, activation, initialisers, penalties, constraints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self, Unpack

from gpukit import constraints, initializers, regularizers
from gpukit.autograd import Parameter
from gpukit.core.config import extends, flag, show
from gpukit.dispatch.preference import from_file
from gpukit.errors import SettingError
from gpukit.layers.activation import activation_name, get_activation
from gpukit.layers.base import Layer, LayerOptions
from gpukit.layers.batch_shape import Shape
from gpukit.layers.checks import check_channels

_INSIDE = ("relu", "sigmoid", "tanh")  # activations that the operation itself computes

Algo = str | Mapping[str, str] | None


class WeightOptions(LayerOptions, total=False):
    """What every layer with a kernel takes beside its activation (see `WeightedLayer`)."""

    use_bias: bool
    kernel_initializer: Any
    bias_initializer: Any
    kernel_regularizer: Any
    bias_regularizer: Any
    activity_regularizer: Any
    kernel_constraint: Any
    bias_constraint: Any
    algo: Algo


class WeightedLayer(Layer):
    """A layer that multiplies by a kernel, adds a bias and applies an activation.

    `kernel_regularizer`, `bias_regularizer` and `activity_regularizer` are penalties that join the
    loss (the activity's as the mean over the batch); constraints act after each step. `algo`
    chooses an implementation by name, or one for each of "forward", "input_grad", "weight_grad".
    """

    @extends(Layer)
    def __init__(
        self,
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
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.kernel: Parameter | None = None
        self.bias: Parameter | None = None
        self.activation = activation_name(activation)
        self.use_bias = flag("use_bias", use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        if not (algo is None or isinstance(algo, (str, Mapping))):
            raise SettingError(f"algo={show(algo)}: use a name or a dict of names by pass")
        self.algo = algo
        inside = isinstance(self.activation, str) and self.activation in _INSIDE
        self._inside = self.activation if inside else None
        self._channels = 0
        self._separate = None if inside else get_activation(self.activation)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        return super().from_config({**config, "algo": from_file(config.get("algo"))})

    def add_weights(self, channels: int, kernel_shape: Sequence[int], groups: int = 1) -> None:
        """Make the kernel for inputs of `channels`, and the bias where there is one."""
        self._channels = channels
        self.kernel = self.add_own_parameter("kernel", kernel_shape, groups=groups)
        if self.use_bias:
            self.bias = self.add_own_parameter("bias", kernel_shape[-1:])

    def weigh(self, inputs: Any, activation: str | None) -> Any:
        """The operation with kernel and bias, followed by an activation that it computes itself."""
        raise NotImplementedError

    @property
    def final_activation(self) -> str | None:
        # A penalty on the activity needs the activated outputs.
        named = isinstance(self.activation, str) and self.activity_regularizer is None
        return self.activation if named else None

    def check_built(self, input_shape: Shape) -> None:
        check_channels(input_shape, self._channels)

    def call_logits(self, inputs: Any, training: bool) -> Any:
        self.check_built(inputs.shape)
        return self.weigh(inputs, None)

    def call(self, inputs: Any, training: bool) -> Any:
        self.check_built(inputs.shape)
        outputs = self.weigh(inputs, self._inside)
        return outputs if self._separate is None else self._separate(outputs)
