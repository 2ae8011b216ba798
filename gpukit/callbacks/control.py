"""Callbacks that intervene: user functions, stop at NaN, a learning rate by epoch."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable
from typing import Any

from gpukit.callbacks.base import Callback, Logs
from gpukit.core.config import number, show
from gpukit.core.terminal import say
from gpukit.errors import SettingError


class LambdaCallback(Callback):
    """Functions as a callback: each, by the name of its event, is called with its arguments."""

    def __init__(
        self,
        on_epoch_begin: Callable[..., Any] | None = None,
        on_epoch_end: Callable[..., Any] | None = None,
        on_train_begin: Callable[..., Any] | None = None,
        on_train_end: Callable[..., Any] | None = None,
        on_train_batch_begin: Callable[..., Any] | None = None,
        on_train_batch_end: Callable[..., Any] | None = None,
        **others: Callable[..., Any] | None,
    ) -> None:
        given = {name: value for name, value in locals().items() if name.startswith("on_")}
        for name in others:
            if not name.startswith("on_") or not hasattr(Callback, name):
                known = ", ".join(n for n in vars(Callback) if n.startswith("on_"))
                raise TypeError(f"LambdaCallback() has no argument {name!r}; use one of {known}")
        given |= others
        for event, function in given.items():
            if function is not None and not callable(function):
                raise SettingError(f"LambdaCallback: {event}={show(function)}: use a function")
            if function is not None:
                setattr(self, event, function)


class TerminateOnNaN(Callback):
    """Stops training when the loss or a gradient is no longer finite, and says what was first."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        loss = (logs or {}).get("loss")
        first = getattr(self.model, "not_finite", "")
        if first or (loss is not None and not math.isfinite(loss)):
            said = f"; {first}" if first else ""
            warnings.warn(
                f"batch {batch}: the loss is {loss}{said}; training stops. Use a smaller learning "
                "rate or look for NaN in the data",
                stacklevel=2,
            )
            self.model.stop_training = True


class LearningRateScheduler(Callback):
    """Before each epoch, the learning rate that `schedule(epoch)` gives, epochs from 0.

    `schedule` may take the present rate as its second argument. `verbose` 1 prints the rate.
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        if not callable(schedule):
            raise SettingError(f"schedule={show(schedule)}: use a function of the epoch")
        self.schedule = schedule
        self.verbose = verbose
        self._takes_rate = _positional(schedule) >= 2

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        optimizer = self.model.optimizer
        now = (optimizer.learning_rate,) if self._takes_rate else ()
        rate = self.schedule(epoch, *now)
        optimizer.learning_rate = number(f"epoch {epoch}: the schedule's rate", rate, low=0)
        if self.verbose:
            say(f"epoch {epoch + 1}: learning rate {optimizer.learning_rate:g}")


def _positional(function: Callable[..., Any]) -> int:
    """How many positional arguments a function takes."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    if any(p.kind == p.VAR_POSITIONAL for p in parameters):
        return 2
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
