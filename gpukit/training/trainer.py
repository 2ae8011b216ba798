"""Training as users call it: fit, evaluate, predict, train_on_batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gpukit import metrics
from gpukit.autograd import Tensor
from gpukit.callbacks import Callback, CallbackList
from gpukit.data.feed import ArrayFeed, Feed
from gpukit.errors import DataError
from gpukit.training import hooks, loop
from gpukit.training.compiled import Compiled
from gpukit.training.feeds import as_arrays, class_weighted
from gpukit.training.hooks import has_own, train_by_own
from gpukit.training.state import TrainingState
from gpukit.training.step import Figures


class Trainer(Compiled):
    """A network that can be compiled, trained, evaluated and used."""

    fit = loop.fit

    # Steps, which a subclass may write itself. `data` is a batch (x, y), with weights of samples
    # (x, y, w): x a Tensor on the model's device, y and w arrays on the host. The figures that the
    # last batch's step returned are those of the epoch, as in Keras, whose steps return the results
    # of metrics.

    @hooks.default
    def train_step(self, data: Any) -> dict[str, Any]:
        """One update on a batch; the figures of all batches since the pass began."""
        x, y, *weights = data
        return self._add_up(loop.train_step(self, _array(x), y, *weights))

    @hooks.default
    def test_step(self, data: Any) -> dict[str, Any]:
        """The loss and metrics of all batches since the pass began, this one the last."""
        x, y, *weights = data
        return self._add_up(loop.test_step(self, _array(x), y, 1, *weights))

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
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """Loss and metrics over samples x and targets y, or over what gives batches as in `fit`.

        `sample_weight` (N,) weights samples as in `fit`. `steps` uses so many batches (default:
        all). The loss alone as a float, or [loss, metric, …]; with `return_dict`, by name.
        """
        figures = loop.evaluate(
            self,
            x,
            y,
            batch_size=batch_size,
            callbacks=_told(self, callbacks),
            steps=steps,
            sample_weight=sample_weight,
        )
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

    def train_on_batch(
        self,
        x: Any,
        y: Any,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """One update on a batch; returns what `evaluate` returns, measured before the update.

        Weights are as in `fit`.
        """
        x, y = as_arrays(x, y)
        if len(x) == 0:
            raise DataError("train_on_batch: there are no images")
        self.prepare(x)
        feed: Feed = ArrayFeed(x, y, len(x), shuffle=False, weights=sample_weight)
        if class_weight is not None:
            feed = class_weighted(feed, class_weight, (self.output_shape or (1,))[-1] or 1)
        batch = next(feed.epoch())
        if has_own(self, "train_step"):
            sums = train_by_own(self, batch)
            figures = {name: total for name, (total, _) in sums.items()}
            return figures if return_dict else _values(figures)
        with metrics.fresh(self.metrics, self.is_fitting):
            sums = loop.train_step(self, self.to_device(x), y, batch.weight)
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
