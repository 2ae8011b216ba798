"""Normalisation over the batch, and over neighbouring channels."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

from gpukit import constraints, initializers, ops, regularizers
from gpukit.autograd import Parameter, Tensor
from gpukit.core.config import extends, flag, number, whole
from gpukit.errors import ShapeError
from gpukit.layers.base import Layer, LayerOptions, register
from gpukit.layers.batch_shape import Shape, show_shape
from gpukit.layers.checks import check_channels


@register
class BatchNormalization(Layer):
    """(x - mean)/√(variance + epsilon)·gamma + beta, for each channel (the last axis).

    In training mean and (biased) variance are the batch's, and the moving ones follow:
    moving ← momentum·moving + (1 - momentum)·batch. At test time, and where the layer is frozen,
    the moving ones are used and stay.
    Ioffe and Szegedy, 2015; constants and the biased variance as in Keras.
    """

    keras_defaults: ClassVar = {
        **Layer.keras_defaults,
        "axis": (-1,),
        "synchronized": (False,),
        "beta_regularizer": (None,),
        "gamma_regularizer": (None,),
        "beta_constraint": (None,),
        "gamma_constraint": (None,),
    }

    @extends(Layer)
    def __init__(
        self,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.momentum = number("momentum", momentum, low=0, high=1)
        self.epsilon = number("epsilon", epsilon, above=0)
        self.center, self.scale = flag("center", center), flag("scale", scale)
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.moving_mean_initializer = initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = initializers.get(moving_variance_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_constraint = constraints.get(beta_constraint)
        self.gamma_constraint = constraints.get(gamma_constraint)
        self.gamma: Parameter | Tensor | None = None
        self.beta: Parameter | Tensor | None = None
        self.moving_mean: Parameter | None = None
        self.moving_variance: Parameter | None = None

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) < 2 or input_shape[-1] is None:
            raise ShapeError(f"needs (N, …, C) with known C, got {show_shape(input_shape)}")
        return input_shape

    def create_parameters(self, input_shape: Shape) -> None:
        channels = input_shape[-1]
        assert channels is not None and self.device is not None
        shape = (channels,)
        fixed = Tensor.wrap(self.device.zeros(shape, self.parameter_dtype))
        self.gamma, self.beta = Tensor.wrap(fixed.array + 1.0), fixed
        if self.scale:
            self.gamma = self.add_own_parameter("gamma", shape)
        if self.center:
            self.beta = self.add_own_parameter("beta", shape)
        self.moving_mean = self.add_own_parameter("moving_mean", shape, trainable=False)
        self.moving_variance = self.add_own_parameter("moving_variance", shape, trainable=False)

    def check_built(self, input_shape: Shape) -> None:
        assert self.moving_mean is not None
        check_channels(input_shape, self.moving_mean.size)

    def call(self, inputs: Any, training: bool) -> Any:
        self.check_built(tuple(inputs.shape))
        if not (training and self.trainable):
            return ops.batch_norm_inference(
                inputs,
                self.gamma,
                self.beta,
                self.moving_mean,
                self.moving_variance,
                epsilon=self.epsilon,
            )
        outputs, mean, variance = ops.batch_norm(
            inputs, self.gamma, self.beta, epsilon=self.epsilon
        )
        if inputs.size:
            self._follow(self.moving_mean, mean)
            self._follow(self.moving_variance, variance)
        return outputs

    def _follow(self, moving: Parameter | None, batch: Any) -> None:
        assert moving is not None
        now = batch.array if isinstance(batch, Tensor) else batch
        moving.assign(moving.array * self.momentum + now * (1 - self.momentum))


@register
class LocalResponseNormalization(Layer):
    """y = x/(k + alpha/size·Σx²)^beta over `size` neighbouring channels of a group.

    Krizhevsky et al., 2012, section 3.3, whose formula has no 1/size: its alpha of 1e-4 is 5e-4
    here. `groups` are towers whose channels are no neighbours.
    """

    rank = 4
    axes = "(N, H, W, C)"

    @extends(Layer)
    def __init__(
        self,
        size: int = 5,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 2.0,
        groups: int = 1,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.size = whole("size", size)
        self.alpha = number("alpha", alpha, low=0)
        self.beta = number("beta", beta, low=0)
        self.k = number("k", k, above=0)
        self.groups = whole("groups", groups)

    def output_shape(self, input_shape: Shape) -> Shape:
        channels = input_shape[3]
        if channels is not None and channels % self.groups:
            fine = [g for g in range(1, channels + 1) if channels % g == 0][:6]
            raise ShapeError(
                f"{channels} channels do not divide into groups={self.groups}; "
                f"use {', '.join(map(str, fine))}"
            )
        return input_shape

    @property
    def settings(self) -> dict[str, Any]:
        """The formula's constants, as operations take them."""
        return {
            "size": self.size,
            "alpha": self.alpha,
            "beta": self.beta,
            "k": self.k,
            "groups": self.groups,
        }

    def call(self, inputs: Any, training: bool) -> Any:
        return ops.lrn(inputs, **self.settings)
