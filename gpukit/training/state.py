"""The state of a training run: what must be saved to resume exactly where it stopped."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpukit.errors import CheckpointError
from gpukit.metrics import Metric, Sums, add_sums, figure_of, load_state, state_of


@dataclass
class TrainingState:
    """Position and running figures of a run.

    `epoch` epochs are complete and `batch` batches of the current one; `sums` holds what each
    figure of that epoch is made of, a weighted sum and its weight or those of its metric among
    `metrics`, `history` the figures of the complete ones.
    `stopped` says that a callback has asked for the end. `callbacks` and `callback_arrays` are
    what callbacks remembered when training, here or in an earlier process, last stood still.
    `feed` is what the feed of images must find again, by `Feed.config`.
    """

    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0
    sums: dict[str, Sums] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    stopped: bool = False
    feed: dict[str, Any] = field(default_factory=dict)
    callbacks: dict[str, Any] = field(default_factory=dict)
    callback_arrays: dict[str, np.ndarray] = field(default_factory=dict)
    metrics: Mapping[str, Metric] = field(default_factory=dict, repr=False, compare=False)

    def add(self, name: str, sums: Sums) -> None:
        """Count the sums of a batch towards a figure of the current epoch."""
        self.sums[name] = add_sums(self.sums.get(name), sums)

    def figures(self) -> dict[str, Any]:
        """Every figure so far in this epoch: a float, or lists of them."""
        return {name: self._figure(name, sums) for name, sums in self.sums.items()}

    def _figure(self, name: str, sums: Sums) -> Any:
        metric = self.metrics.get(name)
        if metric is not None:
            return figure_of(metric, sums)
        total, weight = sums
        return total / weight if weight else float("nan")

    def finish_epoch(self, logs: dict[str, Any]) -> None:
        """End the current epoch with its figures."""
        self.history.append(logs)
        self.epoch += 1
        self.batch = 0
        self.seconds = 0.0
        self.sums = {}

    def to_json(self) -> dict[str, Any]:
        """Plain data; floats survive JSON to the bit."""
        kept = ("epoch", "batch", "seconds", "sums", "history", "stopped", "feed")
        data = {name: getattr(self, name) for name in kept}
        data["sums"] = {name: self._held(name, sums) for name, sums in self.sums.items()}
        return data

    def _held(self, name: str, sums: Sums) -> list[float]:
        metric = self.metrics.get(name)
        if metric is not None and metric.keeps_state:
            return state_of(metric)
        return [float(n) for n in sums]

    def bring_back_metrics(self) -> None:
        """Give metrics that keep their state what a file has of the epoch that goes on."""
        for name, metric in self.metrics.items():
            held = self.sums.get(name, ())
            if not metric.keeps_state or (isinstance(held, tuple) and not held):
                continue  # () is of this process, whose metric still counts
            if not len(held):
                warnings.warn(
                    f"{name} counts only the rest of the epoch that goes on: a file keeps no "
                    "attributes of a metric, only what add_weight made",
                    stacklevel=3,
                )
            else:
                try:
                    load_state(metric, list(held))
                except ValueError as error:
                    raise CheckpointError(
                        f"the state of training is not readable ({error})"
                    ) from None
            self.sums[name] = ()

    @classmethod
    def from_json(cls, data: Any) -> TrainingState:
        """The inverse of `to_json`. Raises CheckpointError for anything else."""
        try:
            state = cls(
                epoch=int(data["epoch"]),
                batch=int(data["batch"]),
                seconds=float(data["seconds"]),
                sums={str(k): _sums(v) for k, v in data["sums"].items()},
                history=[{str(k): _figure(v) for k, v in logs.items()} for logs in data["history"]],
                stopped=bool(data["stopped"]),
                feed={str(k): v for k, v in data.get("feed", {}).items()},
            )
            if min(state.epoch, state.batch, *(int(x["epoch"]) for x in state.history)) < 0:
                raise ValueError(f"epoch {state.epoch}, batch {state.batch}")
            return state
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise CheckpointError(f"the state of training is not readable ({error!r})") from None


def _sums(values: Any) -> Sums:
    found = [float(value) for value in values]
    return (found[0], found[1]) if len(found) == 2 else np.asarray(found)


def _figure(value: Any) -> Any:
    """A number, or lists of them."""
    if isinstance(value, list):
        return [_figure(v) for v in value]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{value!r} in the history")
    return value
