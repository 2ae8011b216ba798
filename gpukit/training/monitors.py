"""Checks, before training, that what callbacks monitor will be in the logs."""

from __future__ import annotations

from gpukit.callbacks import Callback, CallbackList, LambdaCallback
from gpukit.callbacks.monitor import Monitor
from gpukit.training.compiled import Compiled


def check_monitors(every: CallbackList, model: Compiled, validates: bool) -> None:
    """Refuse a monitor that no epoch of `fit` will have; SettingError names those that it will.

    One that only lacks validation data is left to its warning at the first epoch, as in Keras. A
    user's callback may put figures of its own into the logs: those after it are not checked.
    """
    names = model.metrics_names
    validated = [f"val_{name}" for name in names]
    figures = [*names, *(validated if validates else ()), "lr", "seconds"]
    for callback in every.callbacks:
        if _may_add_figures(callback):
            return
        if not isinstance(callback, Monitor) or not callback.needs_figure():
            continue
        if validates or callback.monitor not in validated:
            callback.check(figures, model._metrics)


def _may_add_figures(callback: Callback) -> bool:
    if isinstance(callback, LambdaCallback):
        return "on_epoch_end" in vars(callback)
    return not type(callback).on_epoch_end.__module__.startswith("gpukit.")
