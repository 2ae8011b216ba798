"""A compiled network: its optimiser, loss and metrics, and what a training step computes of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from gpukit import losses, ops, optimizers
from gpukit import metrics as metric_family
from gpukit.autograd import Parameter, Tensor
from gpukit.autograd.buffer import ParameterBuffer
from gpukit.callbacks import CallbackList
from gpukit.device import Device
from gpukit.errors import SettingError
from gpukit.layers.base import Layer
from gpukit.layers.batch_shape import Shape
from gpukit.layers.context import Context
from gpukit.training.state import TrainingState


class Compiled(ABC):
    """What a training step works on: a network, and what `compile` chose for it.

    A subclass gives the network; it is all that is abstract here. After a step `not_finite` says
    what first was NaN or infinite and in which step; it is empty where nothing was.
    """

    name: str
    device: Device
    dtype: np.dtype[Any]
    context: Context
    layers: list[Layer]

    def __init__(self) -> None:
        self.stop_training = False
        self.not_finite = ""
        self.is_fitting = False
        self.training_state = TrainingState()
        self.callbacks: CallbackList | None = None
        self._optimizer: optimizers.Optimizer | None = None
        self._loss: losses.Loss | None = None
        self._metrics: list[metric_family.Metric] = []

    # The network

    @property
    @abstractmethod
    def output_device(self) -> Device:
        """Where the output is, and the loss."""

    @property
    @abstractmethod
    def output_shape(self) -> Shape | None:
        """Shape of the output, its batch axis None; None where it is not known yet."""

    @property
    @abstractmethod
    def last_layer(self) -> Layer:
        """The layer that makes the output."""

    @property
    @abstractmethod
    def parameters(self) -> list[Parameter]:
        """All parameters, also those that are not trained, layer by layer."""

    @abstractmethod
    def parameter_buffers(self) -> list[ParameterBuffer]:
        """The buffers that hold the trainable parameters and their gradients."""

    @abstractmethod
    def prepare(self, x: np.ndarray) -> None:
        """Build what is not built yet for samples like x, and refuse what does not fit."""

    @abstractmethod
    def to_device(self, x: Any, shift: np.ndarray | None = None) -> Any:
        """A batch as the network computes with it; `shift` (N, C) is added to uint8 channels."""

    @abstractmethod
    def as_input(self, x: Any) -> Any:
        """Whatever a user gives as samples, as the network computes with it."""

    @abstractmethod
    def forward(self, x: Any, training: bool | None, logits: bool) -> Any:
        """The output for x; where `logits` is asked for, without the activation at its end."""

    @abstractmethod
    def __call__(self, x: Any, training: bool | None = None) -> Any:
        """The output for samples x (N, …)."""

    # What `compile` chose

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

    # A step

    @property
    def training_loss(self) -> losses.Loss:
        """The loss of what `for_loss` gives: from logits where the last activation was left out."""
        return self._fused_loss() or self.loss

    def for_loss(self, x: Any) -> Tensor:
        """The output that the loss takes: logits where the last activation is fused into it."""
        self.forget_penalties()
        tensor = Tensor.wrap(self.as_input(x))
        return self.forward(tensor, None, logits=self._fused_loss() is not None)

    def _fused_loss(self) -> losses.Loss | None:
        activation = self.last_layer.final_activation
        if activation is None or activation != self.loss.fused_activation:
            return None
        return self.loss.from_logits_variant()

    def forget_penalties(self) -> None:
        """Forget the penalties on activities of earlier forward passes."""
        for layer in self.layers:
            layer.reset_losses()

    def penalty(self) -> Tensor | None:
        """Sum of what regularisers add to the loss; None where there are none."""
        total = None
        for layer in self.layers:
            term = layer.regularization()
            if term is not None:
                term = ops.to_device(term, self.output_device)
                total = term if total is None else total + term
        return total

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters:
            parameter.zero_grad()

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

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """A block of `fit`, in which the state of training is its own."""
        self.is_fitting = True
        try:
            yield
        finally:
            self.is_fitting = False
