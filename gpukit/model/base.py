"""What every model has: layers, parameter buffers, training, saving."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np

from gpukit import losses, ops, optimizers
from gpukit import metrics as metric_family
from gpukit.autograd import Parameter, Tensor
from gpukit.autograd.buffer import ParameterBuffer, parameter_buffers
from gpukit.autograd.results import operand, values_of
from gpukit.callbacks import Callback, CallbackList, History
from gpukit.core.config import flag, show, whole
from gpukit.core.settings import is_training
from gpukit.data.normalise import Normalise
from gpukit.device import Device, get_device
from gpukit.errors import DataError, DTypeError, SettingError, ShapeError
from gpukit.layers.base import Layer
from gpukit.layers.context import Context
from gpukit.layers.symbolic import show_shape
from gpukit.model.execution import Plan, execute, steps_of
from gpukit.model.fusion import fuse
from gpukit.model.shards import Wholes
from gpukit.primitives import normalise_images
from gpukit.training import loop
from gpukit.training.state import TrainingState
from gpukit.utils import default_seed

Shape = tuple[int | None, ...]


class Base(ABC):
    """A network of layers that can be trained.

    `device` and `dtype` ("float32" or "float64") are where and in what its parameters live; `seed`
    fixes their first values, the order of images in `fit` and the masks of dropout. After `fit`,
    `not_finite` says what first was NaN or infinite and in which step; it is empty where nothing.
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
        self.stop_training = False
        self.not_finite = ""
        self.is_fitting = False
        self.training_state = TrainingState()
        self.callbacks: CallbackList | None = None
        self._buffers: list[ParameterBuffer] | None = None
        self._plans: dict[bool, Plan] = {}
        self._optimizer: optimizers.Optimizer | None = None
        self._loss: losses.Loss | None = None
        self._metrics: list[metric_family.Metric] = []

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

    def forward(self, x: Any, training: bool | None, logits: bool) -> Any:
        """The output for x; where `logits` is asked for, without the softmax at its end."""
        return execute(self.plan(logits), x, training)

    def plan(self, logits: bool = False) -> Plan:
        """What a forward pass does, in order."""
        if logits not in self._plans:
            steps = steps_of(self.graph(), self.placement(), logits)
            self._plans[logits] = Plan(fuse(steps))
        return self._plans[logits]

    def placement(self) -> list[Device]:
        """The device of every use of a layer, in the order of `graph`."""
        return [self.device for _ in self.graph()]

    @property
    @abstractmethod
    def last_layer(self) -> Layer:
        """The layer that makes the output."""

    @abstractmethod
    def graph(self) -> list[tuple[Layer, list[int]]]:
        """Every use of a layer in order, with the places of its inputs; −1 is the model's input."""

    @abstractmethod
    def structure(self) -> dict[str, Any]:
        """What `from_structure` of the same class makes the same model of, in JSON's types."""

    @classmethod
    def places(cls, structure: Mapping[str, Any]) -> int:
        """How many devices the model that `structure` describes can be spread over."""
        return 1

    @classmethod
    @abstractmethod
    def from_structure(
        cls,
        structure: Mapping[str, Any],
        devices: Sequence[str | Device | None] | None = None,
        **settings: Any,
    ) -> Self:
        """The model that `structure` describes, on a device for each of its `places`."""

    def __call__(self, x: Any, training: bool | None = None) -> Any:
        """The model's output for samples x (N, …), as a Tensor; an array if nothing is trainable.

        uint8 images are converted by `normalise`, by default from 0 … 255 to 0 … 1. `training` is
        what `gpukit.core.settings.training_mode` says unless given; each call in training draws new
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
        self._forget_penalties()
        training = is_training() if training is None else flag("training", training)
        outputs = self.forward(self._as_input(x), training, logits)
        if training:
            self.context.step += 1
        return outputs

    @property
    def parameters(self) -> list[Parameter]:
        """All parameters, also those that are not trained, layer by layer."""
        return [parameter for layer in self.layers for parameter in layer.parameters]

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
        # A model that shares layers with this one takes their parameters into buffers of its own.
        if self._buffers is None or not all(b.holds_its_parameters() for b in self._buffers):
            self._buffers = parameter_buffers(self.parameters)
        return self._buffers

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters:
            parameter.zero_grad()

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

    # Training

    def compile(
        self, optimizer: Any = "rmsprop", loss: Any = None, metrics: Sequence[Any] | None = None
    ) -> None:
        """Choose the optimiser, the loss and a list of metrics, each an object or a name."""
        if metrics is not None and not isinstance(metrics, (list, tuple)):
            metrics = [metrics]
        self._optimizer = optimizers.get(optimizer)
        self._loss = None if loss is None else losses.get(loss)
        self._metrics = [metric_family.get(spec) for spec in metrics or ()]

    @property
    def optimizer(self) -> optimizers.Optimizer:
        """The optimiser given to `compile`."""
        if self._optimizer is None:
            raise SettingError(f"{self.name} has no optimizer; call compile(optimizer, loss) first")
        return self._optimizer

    @property
    def loss(self) -> losses.Loss:
        """The loss given to `compile`."""
        if self._loss is None:
            raise SettingError(f"{self.name} has no loss; call compile(optimizer, loss) first")
        return self._loss

    @property
    def training_loss(self) -> losses.Loss:
        """The loss of what `for_loss` gives: from logits where the last activation was left out."""
        return self._fused_loss() or self.loss

    def for_loss(self, x: Any) -> Tensor:
        """The output that the loss takes: logits where the last activation is fused into it."""
        self._forget_penalties()
        tensor = Tensor.wrap(self._as_input(x))
        return self.forward(tensor, None, logits=self._fused_loss() is not None)

    def _fused_loss(self) -> losses.Loss | None:
        activation = self.last_layer.final_activation
        if activation is None or activation != self.loss.fused_activation:
            return None
        return self.loss.from_logits_variant()

    def _forget_penalties(self) -> None:
        for layer in self.layers:
            layer.reset_losses()

    def penalty(self) -> Tensor | None:
        """Sum of what regularisers add to the loss; None where there are none."""
        total = None
        for layer in self.layers:
            part = layer.regularization()
            if part is not None:
                part = ops.to_device(part, self.output_device)
                total = part if total is None else total + part
        return total

    def constrain(self) -> None:
        """Apply the constraints of all layers to their parameters."""
        for layer in self.layers:
            layer.apply_constraints()

    def measure(
        self, y: Any, outputs: Tensor, fused: bool = True
    ) -> dict[str, tuple[float, float]]:
        """(sum, weight) of each metric over a batch, for `outputs` of `for_loss`.

        With `fused` False, for outputs of the model itself, its last activation applied.
        """
        if not self._metrics:
            return {}
        predictions = outputs.array
        if fused and self._fused_loss() is not None:
            predictions = getattr(ops, str(self.last_layer.final_activation))(predictions)
        with outputs.device.current():
            return {m.name: metric_family.update_of(m, y, predictions) for m in self._metrics}

    def fit(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 32,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Callback | Sequence[Callback] | None = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        initial_epoch: int = 0,
        accumulate: int = 1,
        replay: int = 0,
    ) -> History:
        """Train on samples x (N, …) and targets y (N, …), or on a `data.Feed` instead of both.

        A feed has batches, an order and a seed of its own. `validation_data` is a pair (x, y) or a
        feed; `validation_split` takes that fraction from the end of the data, before any shuffling.
        `verbose` is "auto" or 1 (a progress bar on stderr), 2 (a line an epoch) or 0. `accumulate`
        computes each batch in so many parts, one after the other in less memory, and adds their
        gradients up. Every `replay` steps (0: never) one is computed twice; ReplayError where the
        bits differ. Returns the history: `.history["loss"]` and so on, one figure an epoch.
        """
        return loop.fit(
            self,
            x,
            y,
            batch_size=batch_size,
            epochs=epochs,
            verbose=verbose,
            callbacks=[callbacks] if isinstance(callbacks, Callback) else callbacks,
            validation_split=validation_split,
            validation_data=validation_data,
            shuffle=shuffle,
            initial_epoch=initial_epoch,
            accumulate=accumulate,
            replay=replay,
        )

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """A block of `fit`, in which the state of training is its own."""
        self.is_fitting = True
        try:
            yield
        finally:
            self.is_fitting = False

    def evaluate(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 256,
        return_dict: bool = False,
        verbose: Any = 0,
    ) -> Any:
        """Loss and metrics over samples x and targets y, or over a `data.Feed`, without y.

        The loss alone as a float, or [loss, metric, …]; with `return_dict`, by name.
        """
        figures = loop.evaluate(self, x, y, batch_size=batch_size)
        if return_dict:
            return figures
        values = list(figures.values())
        return values[0] if len(values) == 1 else values

    def predict(self, x: Any, batch_size: int = 256, verbose: Any = 0) -> np.ndarray:
        """The outputs for samples x, or for those of a `data.Feed`, on the host."""
        return loop.predict(self, x, batch_size=batch_size)

    def train_on_batch(self, x: Any, y: Any, return_dict: bool = False) -> Any:
        """One update on a batch; returns what `evaluate` returns, measured before the update."""
        x, y = loop.as_arrays(x, y)
        if len(x) == 0:
            raise DataError("train_on_batch: there are no images")
        self.prepare(x)
        sums = loop.train_step(self, self.to_device(x), y)
        figures = {name: total / weight for name, (total, weight) in sums.items()}
        if return_dict:
            return figures
        values = list(figures.values())
        return values[0] if len(values) == 1 else values

    def prepare(self, x: np.ndarray) -> None:
        """Build what is not built yet for samples like x, and refuse what does not fit."""
        expected = self.input_shape
        if expected is None:
            self.build((None, *x.shape[1:]))
        elif len(expected) != x.ndim or any(
            e is not None and e != n for e, n in zip(expected[1:], x.shape[1:])
        ):
            raise ShapeError(
                f"{self.name} takes inputs {show_shape(expected)}, x has shape {x.shape}"
            )
        if x.dtype.kind == "f" and x.dtype != self.dtype:
            raise DTypeError(
                f"{self.name} is {self.dtype}, x is {x.dtype}; cast it with "
                f".astype(np.{self.dtype})"
            )
        if x.dtype.kind != "f" and x.dtype != np.uint8:
            raise DTypeError(
                f"{self.name} takes {self.dtype} or uint8 images, x is {x.dtype}; cast it with "
                f".astype(np.{self.dtype})"
            )

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
        constants = (*(self.normalise or Normalise()).affine(channels), shift)
        mean, scale, shift = (a if a is None else self.device.asarray(a) for a in constants)
        images = self.device.asarray(x).reshape(
            (len(x), 1, -1, channels) if x.ndim != 4 else x.shape
        )
        return normalise_images(images, mean, scale, shift, dtype=self.dtype).reshape(x.shape)

    def _as_input(self, x: Any) -> Any:
        if isinstance(x, (list, tuple)):
            return self.to_device(loop.as_array("x", x))
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

    # Looking and keeping

    def summary(self) -> None:
        """Print every layer's output shape, units, connections, weights, operations and memory."""
        from gpukit.inspect import summary

        summary.show(self)

    def save(self, path: str | Path) -> None:
        """Write the model, its optimiser and the state of training to one safetensors file."""
        from gpukit.model import saving

        saving.save(self, path)

    def save_weights(self, path: str | Path) -> None:
        """Write the parameters, without optimiser and training, to one safetensors file."""
        from gpukit.model import saving

        saving.save(self, path, weights_only=True)

    def load(self, path: str | Path) -> Self:
        """Take over the parameters, optimiser and state of training of a checkpoint.

        Raises CheckpointError, before anything is changed, where it does not belong to this model.
        """
        from gpukit.model import saving

        if self.is_fitting:
            raise SettingError(
                f"{self.name}: load within fit would replace what fit keeps of its epochs; load "
                "afterwards, or use set_weights"
            )

        saving.load_into(self, path)
        return self

    def state_tensors(self) -> dict[str, np.ndarray]:
        """Every parameter on the host by name; of layers that are split, the whole ones."""
        tensors = {parameter.name: parameter.numpy() for parameter in self.parameters}
        return Wholes(self.layers).join(tensors)

    def load_tensors(self, tensors: Mapping[str, np.ndarray], source: str) -> None:
        """Overwrite every parameter from `tensors`, after checking that all of them fit."""
        own = Wholes(self.layers).take(tensors, source, self.name)
        for parameter in self.parameters:
            parameter.assign(own[parameter.name])

    def _build_layer(self, layer: Layer, shape: Any, device: Device) -> None:
        sequence = np.random.SeedSequence(self.context.seed, spawn_key=(layer.stream,))
        rng = np.random.Generator(np.random.PCG64(sequence))
        layer.build(shape, device, self.dtype, rng)
        self._buffers = None
        self._plans = {}
