"""The state of a training run: what must be saved to resume exactly where it stopped."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpukit.errors import CheckpointError


@dataclass
class TrainingState:
    """Position and running figures of a run.

    `epoch` epochs are complete and `batch` batches of the current one; `sums` holds a weighted
    sum and its weight for each figure of that epoch, `history` the figures of the complete ones.
    `stopped` says that a callback has asked for the end. `callbacks` and `callback_arrays` are
    what callbacks remembered when training, here or in an earlier process, last stood still.
    `feed` is what the feed of images must find again, by `Feed.config`.
    """

    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0
    sums: dict[str, list[float]] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    stopped: bool = False
    feed: dict[str, Any] = field(default_factory=dict)
    callbacks: dict[str, Any] = field(default_factory=dict)
    callback_arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, name: str, total: float, weight: float) -> None:
        """Count `total` over `weight` samples towards a figure of the current epoch."""
        entry = self.sums.setdefault(name, [0.0, 0.0])
        entry[0] += total
        entry[1] += weight

    def figures(self) -> dict[str, float]:
        """The mean of every figure so far in this epoch."""
        return {
            name: total / weight if weight else float("nan")
            for name, (total, weight) in self.sums.items()
        }

    def finish_epoch(self, logs: dict[str, float]) -> None:
        """End the current epoch with its figures."""
        self.history.append(logs)
        self.epoch += 1
        self.batch = 0
        self.seconds = 0.0
        self.sums = {}

    def to_json(self) -> dict[str, Any]:
        """Plain data; floats survive JSON to the bit."""
        kept = ("epoch", "batch", "seconds", "sums", "history", "stopped", "feed")
        return {name: getattr(self, name) for name in kept}

    @classmethod
    def from_json(cls, data: Any) -> TrainingState:
        """The inverse of `to_json`. Raises CheckpointError for anything else."""
        try:
            state = cls(
                epoch=int(data["epoch"]),
                batch=int(data["batch"]),
                seconds=float(data["seconds"]),
                sums={str(k): [float(a), float(b)] for k, (a, b) in data["sums"].items()},
                history=[{str(k): _number(v) for k, v in logs.items()} for logs in data["history"]],
                stopped=bool(data["stopped"]),
                feed={str(k): v for k, v in data.get("feed", {}).items()},
            )
            if min(state.epoch, state.batch, *(int(x["epoch"]) for x in state.history)) < 0:
                raise ValueError(f"epoch {state.epoch}, batch {state.batch}")
            return state
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise CheckpointError(f"the state of training is not readable ({error!r})") from None


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{value!r} in the history")
    return value
