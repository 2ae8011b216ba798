"""Training as users call it: fit, evaluate, predict, train_on_batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpukit.callbacks import Callback, History
from gpukit.errors import DataError
from gpukit.training import loop
from gpukit.training.compiled import Compiled


class Trainer(Compiled):
    """A network that can be compiled, trained, evaluated and used."""

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
        computes each batch in so many micro-batches, one after the other in less memory, and sums
        their gradients. Every `replay` steps (0: never) one is computed twice; ReplayError where
        the bits differ. Returns the history: `.history["loss"]` and so on, one figure an epoch.
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
        return figures if return_dict else _values(figures)

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
        return figures if return_dict else _values(figures)


def _values(figures: dict[str, float]) -> float | list[float]:
    """Keras's form: the loss alone as a float, or [loss, metric, …]."""
    values = list(figures.values())
    return values[0] if len(values) == 1 else values
