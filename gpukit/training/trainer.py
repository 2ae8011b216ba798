"""Training as users call it: fit, evaluate, predict, train_on_batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpukit import metrics
from gpukit.autograd import Tensor
from gpukit.callbacks import Callback, CallbackList
from gpukit.data.feed import Batch
from gpukit.errors import DataError
from gpukit.training import hooks, loop
from gpukit.training.compiled import Compiled
from gpukit.training.feeds import as_arrays
from gpukit.training.hooks import has_own, train_by_own
from gpukit.training.state import TrainingState
from gpukit.training.step import Figures


class Trainer(Compiled):
    """A network that can be compiled, trained, evaluated and used."""

    fit = loop.fit

    # Steps, which a subclass may write itself. `data` is a batch (x, y): x a Tensor on the model's
    # device, y an array on the host. The figures that the last batch's step returned are those of
    # the epoch, as in Keras, whose steps return the results of metrics.

    @hooks.default
    def train_step(self, data: Any) -> dict[str, Any]:
        """One update on a batch; the figures of all batches since the pass began."""
        x, y = data
        return self._add_up(loop.train_step(self, _array(x), y))

    @hooks.default
    def test_step(self, data: Any) -> dict[str, Any]:
        """The loss and metrics of all batches since the pass began, this one the last."""
        x, y = data
        return self._add_up(loop.test_step(self, _array(x), y))

    @hooks.default
    def predict_step(self, data: Any) -> Any:
        """The outputs for the inputs `data`."""
        return self(data, training=False)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None
    ) -> Tensor:
        """The loss given to `compile`, of targets and outputs, reduced; with all penalties."""
        loss, penalty = self.loss(y, y_pred, sample_weight), self.penalty()
        return loss if penalty is None else loss + penalty

    def _add_up(self, sums: Figures) -> dict[str, Any]:
        state = TrainingState(sums=dict(self.step_sums), metrics=self._metrics)
        for name, more in sums.items():
            state.add(name, more)
        self.step_sums = state.sums
        return state.figures()

    def evaluate(
        self,
        x: Any,
        y: Any = None,
        batch_size: int | None = 256,
        return_dict: bool = False,
        verbose: Any = 0,
        *,
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """Loss and metrics over samples x and targets y, or over what gives batches as in `fit`.

        `steps` uses so many batches (default: all). The loss alone as a float, or
        [loss, metric, …]; with `return_dict`, by name.
        """
        told = _told(self, callbacks)
        figures = loop.evaluate(self, x, y, batch_size=batch_size, steps=steps, callbacks=told)
        return figures if return_dict else _values(figures)

    def predict(
        self,
        x: Any,
        batch_size: int | None = 256,
        verbose: Any = 0,
        steps: int | None = None,
        callbacks: Any = None,
    ) -> np.ndarray:
        """The outputs for samples x, or for those of what gives batches as in `fit`, on the host.

        `steps` uses so many batches (default: all).
        """
        told = _told(self, callbacks)
        return loop.predict(self, x, batch_size=batch_size, steps=steps, callbacks=told)

    def train_on_batch(self, x: Any, y: Any, return_dict: bool = False) -> Any:
        """One update on a batch; returns what `evaluate` returns, measured before the update."""
        x, y = as_arrays(x, y)
        if len(x) == 0:
            raise DataError("train_on_batch: there are no images")
        self.prepare(x)
        if has_own(self, "train_step"):
            sums = train_by_own(self, Batch(x, y))
            figures = {name: total for name, (total, _) in sums.items()}
            return figures if return_dict else _values(figures)
        with metrics.fresh(self.metrics, self.is_fitting):
            sums = loop.train_step(self, self.to_device(x), y)
            figures = TrainingState(sums=sums, metrics=self._metrics).figures()
        return figures if return_dict else _values(figures)


def _told(model: Trainer, callbacks: Any) -> CallbackList | None:
    """`callbacks` of evaluate or predict as one; None where there are none."""
    if callbacks is None or isinstance(callbacks, CallbackList):
        return callbacks
    return CallbackList([callbacks] if isinstance(callbacks, Callback) else callbacks, model)


def _values(figures: dict[str, float]) -> float | list[float]:
    """Keras's form: the loss alone as a float, or [loss, metric, …]."""
    values = list(figures.values())
    return values[0] if len(values) == 1 else values


def _array(x: Any) -> Any:
    return x.array if isinstance(x, Tensor) else x
