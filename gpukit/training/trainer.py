"""Training as users call it: fit, evaluate, predict, train_on_batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpukit import metrics
from gpukit.errors import DataError
from gpukit.training import loop
from gpukit.training.compiled import Compiled
from gpukit.training.feeds import as_arrays
from gpukit.training.state import TrainingState


class Trainer(Compiled):
    """A network that can be compiled, trained, evaluated and used."""

    fit = loop.fit

    def evaluate(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 256,
        return_dict: bool = False,
        verbose: Any = 0,
        *,
        steps: int | None = None,
    ) -> Any:
        """Loss and metrics over samples x and targets y, or over what gives batches as in `fit`.

        `steps` uses so many batches (default: all). The loss alone as a float, or
        [loss, metric, …]; with `return_dict`, by name.
        """
        figures = loop.evaluate(self, x, y, batch_size=batch_size, steps=steps)
        return figures if return_dict else _values(figures)

    def predict(
        self, x: Any, batch_size: int = 256, verbose: Any = 0, steps: int | None = None
    ) -> np.ndarray:
        """The outputs for samples x, or for those of what gives batches as in `fit`, on the host.

        `steps` uses so many batches (default: all).
        """
        return loop.predict(self, x, batch_size=batch_size, steps=steps)

    def train_on_batch(self, x: Any, y: Any, return_dict: bool = False) -> Any:
        """One update on a batch; returns what `evaluate` returns, measured before the update."""
        x, y = as_arrays(x, y)
        if len(x) == 0:
            raise DataError("train_on_batch: there are no images")
        self.prepare(x)
        with metrics.fresh(self.metrics, self.is_fitting):
            sums = loop.train_step(self, self.to_device(x), y)
            figures = TrainingState(sums=sums, metrics=self._metrics).figures()
        return figures if return_dict else _values(figures)


def _values(figures: dict[str, float]) -> float | list[float]:
    """Keras's form: the loss alone as a float, or [loss, metric, …]."""
    values = list(figures.values())
    return values[0] if len(values) == 1 else values
