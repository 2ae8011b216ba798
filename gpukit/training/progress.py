"""What a person sees while a model trains: a bar with loss, accuracy, images/s and an honest ETA.

It goes to stderr. Where that is no terminal, there is one line an epoch instead of a bar.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from gpukit.training.state import TrainingState

REFRESH_SECONDS = 0.1


def progress_for(
    verbose: Any, *, epochs: int, steps: int, images: int, state: TrainingState
) -> Progress:
    """The progress display for `verbose`: 0 nothing, 1 or "auto" a bar, 2 one line an epoch."""
    if verbose in (0, False, None):
        return Progress()
    if verbose == 2 or not sys.stderr.isatty():
        return Lines(epochs, images)
    return Bar(epochs, steps, images, state)


class Progress:
    """Shows nothing."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def step(self, images: int, state: TrainingState) -> None:
        """A batch of `images` was trained on."""

    def epoch_done(self, logs: dict[str, float]) -> None:
        """An epoch ended with these figures."""


class Lines(Progress):
    """One line an epoch."""

    def __init__(self, epochs: int, images: int) -> None:
        self._epochs = epochs
        self._images = images

    def epoch_done(self, logs: dict[str, float]) -> None:
        print(_epoch_line(logs, self._epochs, self._images), file=sys.stderr, flush=True)


class Bar(Progress):
    """A bar over the whole run, with the line of each epoch above it.

    The ETA is the images still to come, validation of the epochs included by its share of the
    time so far, over the rate since this process began to train; compiling in the first steps is
    left out of the rate once there is anything else to go by.
    """

    def __init__(self, epochs: int, steps: int, images: int, state: TrainingState) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self._epochs = epochs
        self._images = images
        self._total = epochs * steps
        self._done = state.epoch * steps + state.batch
        self._begun_at = self._done
        self._begun = time.perf_counter()
        self._recent = 0.0
        self._shown = 0.0
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("{task.fields[figures]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task(
            self._title(state), total=self._total, completed=self._done, figures="compiling …"
        )

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def step(self, images: int, state: TrainingState) -> None:
        now = time.perf_counter()
        self._done += 1
        if self._done == self._begun_at + 1:
            # The first step carries the compiling; the rate is counted from its end.
            self._begun, self._begun_at = now, self._done
            return
        if now - self._shown < REFRESH_SECONDS:
            return
        self._shown = now
        rate = (self._done - self._begun_at) / (now - self._begun)
        figures = state.figures()
        text = f"loss {figures['loss']:.4f}"
        if "accuracy" in figures:
            text += f"  accuracy {figures['accuracy']:.4f}"
        text += f"  {rate * images:,.0f} images/s  ETA {_clock((self._total - self._done) / rate)}"
        self._bar.update(
            self._task, completed=self._done, description=self._title(state), figures=text
        )

    def epoch_done(self, logs: dict[str, float]) -> None:
        self._bar.console.print(_epoch_line(logs, self._epochs, self._images), highlight=False)

    def _title(self, state: TrainingState) -> str:
        return f"epoch {min(state.epoch + 1, self._epochs)}/{self._epochs}"


def _epoch_line(logs: dict[str, float], epochs: int, images: int) -> str:
    parts = [f"epoch {int(logs['epoch']) + 1:>{len(str(epochs))}}/{epochs}"]
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        if name in logs:
            parts.append(f"{name} {logs[name]:.4f}")
    seconds = logs["seconds"]
    if seconds > 0:
        parts.append(f"{images / seconds:,.0f} images/s")
    return "  ".join(parts)


def _clock(seconds: float) -> str:
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
    return f"{whole // 60}:{whole % 60:02d}"
