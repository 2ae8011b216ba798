"""A network of layers: its parameters, the plan and the forward pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpukit import ops
from gpukit.autograd import Parameter, Tensor
from gpukit.autograd.buffer import ParameterBuffer, parameter_buffers
from gpukit.autograd.results import operand, values_of
from gpukit.autograd.tape import caller
from gpukit.core.config import flag, show, whole
from gpukit.core.settings import is_training
from gpukit.data.normalise import Normalise
from gpukit.device import Device, get_device, to_host
from gpukit.errors import DTypeError, SettingError, ShapeError
from gpukit.graph.execution import Plan, execute, steps_of
from gpukit.graph.fusion import fuse
from gpukit.layers.base import BUILDING, Layer, total
from gpukit.layers.batch_shape import Shape, show_shape
from gpukit.layers.context import Context
from gpukit.layers.weight_lists import WeightLists
from gpukit.primitives import normalise_images
from gpukit.utils import default_seed

# uint8 images to 0 … 1, or as they are.
_UNIT, _LEVELS = Normalise(), Normalise(1.0)


class Network(WeightLists, ABC):
    """Layers, and how they are connected.

    `device` and `dtype` ("float32" or "float64") are where and in what its parameters live; `seed`
    fixes their first values, the order of images in `fit` and the masks of dropout. `normalise`
    says how uint8 images become its input, `class_names` what its outputs stand for.
    """

    def __init__(
        self,
        name: str | None = None,
        device: str | Device | None = None,
        dtype: Any = "float32",
        seed: int | None = None,
    ) -> None:
        self.name = name or type(self).__name__.lower()
        self.device = get_device(device)
        try:
            self.dtype = np.dtype(dtype)
        except (TypeError, ValueError):
            raise SettingError(f"dtype {show(dtype)}: models use float32 or float64") from None
        if self.dtype not in (np.float32, np.float64):
            raise SettingError(f"dtype {self.dtype}: models use float32 or float64")
        seed = default_seed() if seed is None else whole("seed", seed, low=0)
        self.context = self._own_context = Context(seed)
        self.layers: list[Layer] = []
        self.normalise: Normalise | None = None
        self.class_names: tuple[str, ...] = ()
        self._trainable = True
        self._buffers: list[ParameterBuffer] | None = None
        self._buffers_of: object = None  # the `Parameter.change` that they were made or found after
        self._plans: dict[bool, Plan] = {}

    # Structure

    @property
    def devices(self) -> tuple[Device, ...]:
        """All devices that layers are on, in order of first use; the first takes the input."""
        return (self.device,)

    @property
    def output_device(self) -> Device:
        """Where the output is, and the loss."""
        return self.device

    @property
    @abstractmethod
    def input_shape(self) -> Shape | None:
        """Shape of the input, its batch axis None; None where it is not known yet."""

    @property
    @abstractmethod
    def output_shape(self) -> Shape | None:
        """Shape of the output, its batch axis None; None where it is not known yet."""

    @property
    @abstractmethod
    def last_layer(self) -> Layer:
        """The layer that makes the output."""

    def forward(self, x: Any, training: bool | None, logits: bool) -> Any:
        """The output for x; with `logits`, without the activation at its end."""
        return execute(self.plan(logits), x, training)

    def plan(self, logits: bool = False) -> Plan:
        """The steps of a forward pass, in order."""
        if logits not in self._plans:
            steps = steps_of(self.graph(), self.placement(), self.modes(), logits)
            self._plans[logits] = Plan(fuse(steps))
        return self._plans[logits]

    def placement(self) -> list[Device]:
        """The device of every use of a layer, in the order of `graph`."""
        return [self.device for _ in self.graph()]

    def modes(self) -> list[bool | None]:
        """The `training` that every use of a layer keeps, in the order of `graph`; None: the
        model's."""
        return [None for _ in self.graph()]

    @abstractmethod
    def graph(self) -> list[tuple[Layer, list[int]]]:
        """Every use of a layer in order, with the places of its inputs; −1 is the model's input."""

    def __call__(self, x: Any, training: bool | None = None) -> Any:
        """The model's output for samples x (N, …), as a Tensor; an array without parameters.

        uint8 images are converted by `normalise`, by default from 0 … 255 to 0 … 1, or left at
        their levels where a layer such as Rescaling takes those. `training` is what
        `gpukit.core.settings.training_mode` says unless given; each call in training draws new
        masks for dropout.
        """
        return self._call(x, training, logits=False)

    def logits(self, x: Any, training: bool | None = None) -> Any:
        """The model's output before its last activation, for losses that compute it fused.

        Of a model that ends in softmax, what `ops.softmax_cross_entropy` takes; as a call where
        the last layer has no activation by name.
        """
        return self._call(x, training, logits=self.last_layer.final_activation is not None)

    def _call(self, x: Any, training: bool | None, logits: bool) -> Any:
        self.forget_penalties()
        training = is_training() if training is None else flag("training", training)
        outputs = self.forward(self.as_input(x), training, logits)
        if training and caller.get() is None:  # else it is a part of another model's step
            self.context.step += 1
        return outputs

    @property
    def parameters(self) -> list[Parameter]:
        """All parameters, also those that are not trained, layer by layer."""
        own = (parameter for layer in self.layers for parameter in layer.parameters)
        return list(dict.fromkeys(own))

    def every_layer(self) -> list[Layer]:
        """`layers`, each with those that it holds, each once."""
        return list(dict.fromkeys(one for layer in self.layers for one in layer.with_inner()))

    @property
    def trainable(self) -> bool:
        """Whether training changes the model; setting it sets `trainable` of all layers.

        Layers may be set otherwise afterwards, at any time; of a model that is set to False itself
        nothing is trained.
        """
        return self._trainable

    @trainable.setter
    def trainable(self, trainable: bool) -> None:
        self._trainable = flag(f"{self.name}: trainable", trainable)
        self._buffers = None
        for layer in self.layers:
            layer.trainable = self._trainable

    def get_layer(self, name: str) -> Layer:
        """The layer called `name`."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        known = ", ".join(layer.name for layer in self.layers)
        raise SettingError(f"{self.name} has no layer {show(name)}; it has {known}")

    def count_params(self) -> int:
        """Number of values in all parameters."""
        return sum(parameter.size for parameter in self.parameters)

    def parameter_buffers(self) -> list[ParameterBuffer]:
        """The buffers that hold the trainable parameters and their gradients."""
        buffers, change = self._buffers, Parameter.change
        if buffers is not None and self._buffers_of is not change:
            held = {id(p) for buffer in buffers for p in buffer.parameters}
            if held != {id(p) for p in self.trainable_weights}:
                buffers = None
        # A model that shares layers with this one takes their parameters into buffers of its own.
        if buffers is None or not all(b.holds_its_parameters() for b in buffers):
            buffers = self._buffers = parameter_buffers(self.trainable_weights)
        self._buffers_of = change
        return buffers

    def forget_penalties(self) -> None:
        """Forget the penalties on activities of earlier forward passes."""
        for layer in self.layers:
            layer.reset_losses()

    def penalty(self) -> Tensor | None:
        """Sum of what regularisers add to the loss; None where there are none."""
        terms = [layer.own_penalty() for layer in self.every_layer()]
        return total(t if t is None else ops.to_device(t, self.output_device) for t in terms)

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters:
            parameter.zero_grad()

    def constrain(self) -> None:
        """Apply the constraints of all layers to their parameters."""
        for layer in self.layers:
            layer.apply_constraints()

    def get_weights(self) -> list[np.ndarray]:
        """Copies of all parameters on the host, in the order of `parameters`."""
        return [parameter.numpy().copy() for parameter in self.parameters]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Overwrite all parameters; shapes must agree with `get_weights`."""
        parameters = self.parameters
        if not isinstance(weights, (list, tuple)):
            raise SettingError(f"{self.name}: set_weights({show(weights)}): use a list of arrays")
        if len(weights) != len(parameters):
            raise ShapeError(
                f"{self.name} has {len(parameters)} parameter arrays, {len(weights)} were given"
            )
        arrays = [operand("set_weights", values_of("set_weights", w)) for w in weights]
        for parameter, array in zip(parameters, arrays):
            if tuple(array.shape) != parameter.shape:
                raise ShapeError(
                    f"{parameter.label} has shape {parameter.shape}, {tuple(array.shape)} was given"
                )
        for parameter, array in zip(parameters, arrays):
            parameter.assign(array)

    def prepare(self, x: np.ndarray) -> None:
        """Build what is not built yet for samples like x, and refuse what does not fit."""
        with BUILDING:
            expected = self.input_shape
            if expected is None:
                self.build((None, *x.shape[1:]))
                expected = (None, *x.shape[1:])
        if len(expected) != x.ndim or any(
            e is not None and e != n for e, n in zip(expected[1:], x.shape[1:])
        ):
            raise ShapeError(
                f"{self.name} takes inputs {show_shape(expected)}, x has shape {x.shape}"
            )
        if x.dtype not in (self.dtype, np.uint8):
            floating = x.dtype.kind == "f"
            takes = f"is {self.dtype}" if floating else f"takes {self.dtype} or uint8 images"
            way_out = f"cast it with .astype(np.{self.dtype})"
            raise DTypeError(f"{self.name} {takes}, x is {x.dtype}; {way_out}")

    def build(self, input_shape: Shape) -> None:
        """Make the parameters for inputs of `input_shape`, the batch axis None."""
        raise SettingError(f"{self.name} knows its input shape already")

    def to_device(self, x: Any, shift: np.ndarray | None = None) -> Any:
        """A batch as the model computes with it.

        uint8 images go to the device as they are, and are normalised there; `shift` (N, C) is
        added to the channels of each first.
        """
        if x.dtype != np.uint8:
            return self.device.asarray(x.astype(self.dtype, copy=False))
        channels = x.shape[-1]
        constants = (*(self.normalise or self._unset_normalise()).affine(channels), shift)
        mean, scale, shift = (a if a is None else self.device.asarray(a) for a in constants)
        images = self.device.asarray(x).reshape(
            (len(x), 1, -1, channels) if x.ndim != 4 else x.shape
        )
        return normalise_images(images, mean, scale, shift, dtype=self.dtype).reshape(x.shape)

    def _unset_normalise(self) -> Normalise:
        """What is done to uint8 images unless `normalise` says."""
        for layer in self.layers:
            if layer.takes_levels or (
                layer.users and any(inner.takes_levels for inner in layer.with_inner())
            ):
                return _LEVELS
        return _UNIT

    def as_input(self, x: Any) -> Any:
        """Samples as a user gives them, as the network computes with them."""
        if isinstance(x, (list, tuple)):
            return self.to_device(as_array("x", x))
        if getattr(x, "dtype", None) == np.uint8 and not isinstance(x, Tensor):
            return self.to_device(x)
        # Arrays of the host come along, as in fit; what lives elsewhere is for the caller to move.
        return self.device.asarray(x) if isinstance(x, np.ndarray) else x

    def __repr__(self) -> str:
        what = f"{type(self).__name__} {self.name!r}"
        if self.input_shape is None or self.output_shape is None:
            return f"<{what}, not built>"
        ends = f"{show_shape(self.input_shape)} → {show_shape(self.output_shape)}"
        return f"<{what}: {ends}, {self.count_params():,} parameters>"

    def _build_layer(self, layer: Layer, shape: Any, device: Device) -> None:
        layer.build(shape, device, self.dtype)
        self._buffers = None
        self._plans = {}


def as_array(name: str, value: Any) -> np.ndarray:
    """`value` as a host array with a batch axis, its numbers as they are."""
    try:
        array = to_host(value.array) if isinstance(value, Tensor) else to_host(value)
    except ValueError as error:
        raise ShapeError(f"{name} is no array: {error}") from None
    masked = isinstance(array, np.ma.MaskedArray)
    if array.ndim == 0 or array.dtype.kind not in "biuf" or masked:
        kind = "masked " if masked else ""
        raise DTypeError(
            f"{name} is {kind}{array.dtype} of shape {array.shape}; pass an array of numbers"
        )
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
