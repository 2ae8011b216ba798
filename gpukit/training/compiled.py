"""A compiled network: its optimiser, loss and metrics, and what a training step computes of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from gpukit import losses, ops, optimizers
from gpukit import metrics as metric_family
from gpukit.autograd import Tensor
from gpukit.callbacks import CallbackList
from gpukit.errors import SettingError
from gpukit.graph.network import Network
from gpukit.training.state import TrainingState


class Compiled(Network):
    """What a training step works on: a network, and what `compile` chose for it.

    After a step `not_finite` says what first was NaN or infinite and in which step; it is empty
    where nothing was.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.stop_training = False
        self.not_finite = ""
        self.is_fitting = False
        self.training_state = TrainingState()
        self.step_sums: dict[str, metric_family.Sums] = {}  # of a pass by steps of the class's own
        self.callbacks: CallbackList | None = None
        self._optimizer: optimizers.Optimizer | None = None
        self._loss: losses.Loss | None = None
        self._metrics: dict[str, metric_family.Metric] = {}
        self._weighted: frozenset[str] = frozenset()  # keys of metrics that take weights

    # What `compile` chose

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        metrics: Sequence[Any] | None = None,
        loss_weights: Any = None,
        weighted_metrics: Sequence[Any] | None = None,
    ) -> None:
        """Choose the optimiser, the loss and a list of metrics, each an object or a name.

        `weighted_metrics` are metrics that take the weights of samples into account.
        """
        if loss_weights is not None:
            raise SettingError(
                f"{self.name}: loss_weights is for several outputs; weight samples with "
                "sample_weight or class_weight of fit"
            )
        plain, by_weight = _list_of(metrics), _list_of(weighted_metrics)
        made = [metric_family.get(spec) for spec in (*plain, *by_weight)]
        self._metrics = metric_family.keyed(made)
        self._weighted = frozenset(list(self._metrics)[len(plain) :])
        self._optimizer = optimizers.get(optimizer)
        self._loss = None if loss is None else losses.get(loss)

    @property
    def metrics(self) -> list[metric_family.Metric]:
        """The metrics given to `compile`."""
        return list(self._metrics.values())

    @property
    def metrics_names(self) -> list[str]:
        """The keys of what `evaluate` returns: "loss" and those of the metrics."""
        return ["loss", *self._metrics]

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

    def measure(
        self, y: Any, outputs: Tensor, sample_weight: Any = None, fused: bool = True
    ) -> dict[str, metric_family.Sums]:
        """The sums of each metric over a batch, for `outputs` of `for_loss`.

        With `fused` False, for outputs of the model itself, its last activation applied.
        """
        if not self._metrics:
            return {}
        predictions = outputs.array
        if fused and self._fused_loss() is not None:
            predictions = getattr(ops, str(self.last_layer.final_activation))(predictions)
        with outputs.device.current():
            return {
                key: metric_family.update_of(
                    metric, y, predictions, sample_weight if key in self._weighted else None
                )
                for key, metric in self._metrics.items()
            }

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """A block of `fit`, in which the state of training is its own."""
        self.is_fitting = True
        try:
            yield
        finally:
            self.is_fitting = False


def _list_of(metrics: Any) -> list[Any]:
    """What `compile` takes for several metrics: a list, one alone, or None."""
    if metrics is None:
        return []
    return list(metrics) if isinstance(metrics, (list, tuple)) else [metrics]
