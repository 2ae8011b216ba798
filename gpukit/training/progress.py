"""The progress of training: a bar with loss, accuracy, images/s and an estimate of the time left.

It goes to stderr. Where that is no terminal, there is one line an epoch instead of a bar.
"""

from __future__ import annotations

import time
from typing import Any, Self

from gpukit.core import terminal
from gpukit.core.blocks import Closing
from gpukit.training.state import TrainingState

REFRESH_SECONDS = 0.1
_FIGURES = 8  # in a line


def progress_for(
    verbose: Any, *, epochs: int, steps: int, images: int, state: TrainingState
) -> Progress:
    """The progress display for `verbose`: 0 nothing, 1 or "auto" a bar, 2 one line an epoch."""
    if verbose in (0, False, None):
        return Progress()
    if verbose == 2 or not terminal.stderr().isatty():
        return Lines(epochs, images)
    return Bar(epochs, steps, images, state)


class Progress(Closing):
    """Shows nothing."""

    def step(self, images: int, state: TrainingState) -> None:
        """A batch of `images` was trained on."""

    def epoch_done(self, logs: dict[str, float]) -> None:
        """An epoch ended with these figures."""

    def say(self, remark: str) -> None:
        """Show a line beside the figures."""


class Lines(Progress):
    """One line an epoch."""

    def __init__(self, epochs: int, images: int) -> None:
        self._epochs = epochs
        self._images = images

    def epoch_done(self, logs: dict[str, float]) -> None:
        self.say(_epoch_line(logs, self._epochs, self._images))

    def say(self, remark: str) -> None:
        terminal.say(remark)


class Pace:
    """How fast training is, and how long it will take, from what was measured so far.

    `total` and `done` count the images of the whole run. The first step of a process is left out,
    because it compiles. The ETA divides the images to come by the rate of everything since then,
    validation and saving included; `images_per_second` is of training steps alone.
    """

    def __init__(self, total: int, done: int) -> None:
        self._total = total
        self._done = done
        self._measured = 0
        self._training = 0.0
        self._begun: float | None = None

    def step(self, images: int, seconds: float, now: float) -> None:
        """A step trained on `images`, took `seconds`, and ended at the time `now`."""
        self._done += images
        if self._begun is None:
            self._begun = now
            return
        self._measured += images
        self._training += seconds

    @property
    def images_per_second(self) -> float | None:
        """None before there is anything to go by."""
        return self._measured / self._training if self._training > 0 else None

    def eta(self, now: float) -> float | None:
        """Seconds to the end of the last epoch; None before there is anything to go by."""
        if self._begun is None or self._measured == 0:
            return None
        return (now - self._begun) / self._measured * max(self._total - self._done, 0)


class Bar(Progress):
    """A bar over the whole run, with the line of each epoch above it."""

    def __init__(self, epochs: int, steps: int, images: int, state: TrainingState) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self._epochs = epochs
        self._images = images
        self._steps = steps
        seen = round(images * state.batch / steps)
        self._pace = Pace(epochs * images, state.epoch * images + seen)
        self._seconds = state.seconds
        self._shown = 0.0
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[figures]}"),
            console=Console(file=terminal.stderr()),
            transient=True,
        )
        self._task = self._bar.add_task(
            self._title(state),
            total=epochs * steps,
            completed=state.epoch * steps + state.batch,
            figures="compiling …",
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def close(self) -> None:
        self._bar.stop()

    def step(self, images: int, state: TrainingState) -> None:
        now = time.perf_counter()
        before, self._seconds = self._seconds, state.seconds
        self._pace.step(images, state.seconds - before, now)
        if now - self._shown < REFRESH_SECONDS:
            return
        self._shown = now
        self._bar.update(
            self._task,
            completed=state.epoch * self._steps + state.batch,
            description=self._title(state),
            figures=self._figures(state.figures(), now),
        )

    def epoch_done(self, logs: dict[str, float]) -> None:
        self._seconds = 0.0  # of the next epoch, none of whose steps is done
        self.say(_epoch_line(logs, self._epochs, self._images))

    def say(self, remark: str) -> None:
        self._bar.console.print(remark, highlight=False, markup=False)

    def _title(self, state: TrainingState) -> str:
        return f"epoch {min(state.epoch + 1, self._epochs)}/{self._epochs}"

    def _figures(self, figures: dict[str, float], now: float) -> str:
        shown = _shown(figures)
        rate, eta = self._pace.images_per_second, self._pace.eta(now)
        if rate is not None:
            shown.append(f"{rate:,.0f} images/s")
        if eta is not None:
            shown.append(f"ETA {_clock(eta)}")
        return "  ".join(shown)


def _epoch_line(logs: dict[str, float], epochs: int, images: int) -> str:
    shown = [f"epoch {int(logs['epoch']) + 1:>{len(str(epochs))}}/{epochs}"]
    shown += _shown(logs)
    seconds = logs["seconds"]
    if seconds > 0:
        shown.append(f"{images / seconds:,.0f} images/s")
    return "  ".join(shown)


def _shown(figures: dict[str, float]) -> list[str]:
    """The loss and the metrics, as a line has room for them."""
    return [
        f"{name} {value:.4f}"
        for name, value in figures.items()
        if isinstance(value, float) and name not in ("epoch", "lr", "seconds")
    ][:_FIGURES]


def _clock(seconds: float) -> str:
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
    return f"{whole // 60}:{whole % 60:02d}"
