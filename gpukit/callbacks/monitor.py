"""Callbacks that monitor a figure: stop early, lower the learning rate, save the best model."""

from __future__ import annotations

import contextlib
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gpukit.callbacks.backup import frequency
from gpukit.callbacks.base import Callback, Logs
from gpukit.core.config import flag, number, path, show, snake_case, whole
from gpukit.core.terminal import say
from gpukit.errors import CheckpointError, SettingError


def _figure(value: Any) -> float | None:
    return None if value is None else float(value)


# Words of figures, by what is better; the first one found in a name decides.
_UP = (
    "acc|accuracy|auc|precision|recall|f1|fbeta|iou|top|sensitivity|specificity|similarity|"
    "score|positives|negatives"
)
_DOWN = (
    "loss|error|mse|mae|mape|msle|rmse|crossentropy|hinge|divergence|kld|poisson|huber|cosh|"
    "logcosh|false|lr|seconds"
)


def direction_of(monitor: str) -> int:
    """1 where a higher figure of this name is better, −1 where a lower one is, 0 where unknown."""
    for word in re.split(r"[\W_]+", snake_case(monitor)):
        if re.fullmatch(_DOWN, word):
            return -1
        if re.fullmatch(_UP, word):
            return 1
    return 0


class Monitor(Callback):
    """Follows one of the figures in the logs and knows what is better.

    `remembered` are the attributes that a resumed run goes on with, and what reads each.
    """

    remembered: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}

    def __init__(self, monitor: str, mode: str, min_delta: float, verbose: int) -> None:
        if not isinstance(mode, str) or mode not in ("auto", "min", "max"):
            raise SettingError(f"{type(self).__name__}: mode={show(mode)}: use auto, min or max")
        if not isinstance(monitor, str):
            raise SettingError(f"{type(self).__name__}: monitor={show(monitor)}: use a key of logs")
        self.monitor = monitor
        self.mode = mode
        self.min_delta = abs(number(f"{type(self).__name__}'s min_delta", min_delta))
        self.verbose = verbose
        self._sign = {"min": -1, "max": 1}.get(mode) or direction_of(monitor)
        self._warned = False
        self._exists = False  # as `check` found

    def value(self, logs: Logs | None) -> float | None:
        """The monitored figure; None, with a warning the first time, where it is missing."""
        if self.monitor in (logs or {}):
            found = (logs or {})[self.monitor]
            if isinstance(found, list):
                raise SettingError(
                    f"{type(self).__name__}: {self.monitor!r} is an array; monitor one number, "
                    "such as F1Score(average='macro')"
                )
            return float(found)
        if not self._warned and not self._exists:  # else an epoch without validation
            self._warned = True
            known = ", ".join(sorted(logs or {})) or "nothing"
            way_out = f"monitor one of {known}"
            if self.monitor.startswith("val_"):
                way_out = f"give fit validation_split or validation_data, or {way_out}"
            warnings.warn(
                f"{type(self).__name__} has nothing to do: there is no {self.monitor!r} in the "
                f"logs; {way_out}",
                stacklevel=3,
            )
        return None

    def needs_figure(self) -> bool:
        """Whether the callback has nothing to do without its figure."""
        return True

    def check(self, figures: Sequence[str], metrics: Mapping[str, Any]) -> None:
        """Refuse, before training, a monitor that is none of `figures`, or has no known direction.

        `metrics` are those of the model by key.
        """
        if self.monitor not in figures:
            raise SettingError(
                f"{type(self).__name__}: monitor={show(self.monitor)} is not in the logs; use one "
                f"of {', '.join(figures)}"
            )
        self._exists = True
        metric = metrics.get(self.monitor.removeprefix("val_"))
        higher = getattr(metric, "higher_is_better", None)
        if self.mode == "auto" and higher is not None:
            self._sign = 1 if higher else -1
        self._direction()

    def _direction(self) -> int:
        if self._sign == 0:
            raise SettingError(
                f"{type(self).__name__}: mode='auto' does not know whether a higher "
                f"{self.monitor!r} is better; use mode='max' or mode='min'"
            )
        return self._sign

    def better(self, value: float, reference: float | None) -> bool:
        """Whether `value` improves on `reference` by more than min_delta; NaN never does."""
        if math.isnan(value):
            return False
        if reference is None:
            return True
        return self._direction() * (value - reference) > self.min_delta

    def state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.remembered}

    def load_state(self, state: Mapping[str, Any]) -> None:
        for name, read in self.remembered.items():
            setattr(self, name, read(state[name]))


class EarlyStopping(Monitor):
    """Stops when `monitor` has not improved by more than `min_delta` for `patience` epochs.

    `baseline`: epochs that do not beat it count as without improvement. `restore_best_weights`
    ends with the weights of the best epoch. The first `start_from_epoch` epochs do not count.
    """

    remembered: ClassVar = {"wait": int, "best": _figure, "best_epoch": int}

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta, verbose)
        self.patience = whole("EarlyStopping's patience", patience, low=0)
        self.baseline = None if baseline is None else number("EarlyStopping's baseline", baseline)
        self.restore_best_weights = flag("restore_best_weights", restore_best_weights)
        self.start_from_epoch = whole("EarlyStopping's start_from_epoch", start_from_epoch, low=0)
        self._reset()

    def _reset(self) -> None:
        self.wait = 0
        self.stopped_epoch = 0
        self.best: float | None = None
        self.best_epoch = 0
        self.best_weights: dict[str, np.ndarray] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        value = self.value(logs)
        if value is None or epoch < self.start_from_epoch:
            return
        improved = self.better(value, self.best)
        if improved:
            self.best = value
        if self.restore_best_weights and (improved or self.best_weights is None):
            tensors = self.model.state_tensors()
            self.best_weights = {name: array.copy() for name, array in tensors.items()}
            self.best_epoch = epoch
        self.wait += 1
        if improved:
            self.best_epoch = epoch
            if self.baseline is None or self.better(value, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.stopped_epoch > 0 and self.verbose:
            say(f"epoch {self.stopped_epoch + 1}: early stopping")
        if self.best_weights is not None:
            if self.verbose:
                say(f"restoring the weights of epoch {self.best_epoch + 1}, the best")
            self.model.load_tensors(self.best_weights, "best_weights")

    def arrays(self) -> dict[str, np.ndarray]:
        return dict(self.best_weights or {})

    def load_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.best_weights = {name: np.array(array) for name, array in arrays.items()}


class ReduceLROnPlateau(Monitor):
    """Multiplies the rate by `factor` when `monitor` has not improved for `patience` epochs.

    After a reduction `cooldown` epochs are not counted. The rate never falls below `min_lr`.
    """

    remembered: ClassVar = {"best": _figure, "wait": int, "cooldown_counter": int}

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta, verbose)
        self.factor = number("ReduceLROnPlateau's factor", factor, above=0, below=1)
        self.patience = whole("ReduceLROnPlateau's patience", patience, low=0)
        self.cooldown = whole("ReduceLROnPlateau's cooldown", cooldown, low=0)
        self.min_lr = number("ReduceLROnPlateau's min_lr", min_lr, low=0)
        self._reset()

    def _reset(self) -> None:
        self.best: float | None = None
        self.wait = 0
        self.cooldown_counter = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._reset()
        # Refused here, before training, where a schedule gives the rate.
        self.model.optimizer.learning_rate = self.model.optimizer.learning_rate

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        value = self.value(logs)
        if value is None:
            return
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        if self.better(value, self.best):
            self.best = value
            self.wait = 0
        elif self.cooldown_counter == 0:
            self.wait += 1
            if self.wait >= self.patience:
                self._reduce(epoch)

    def _reduce(self, epoch: int) -> None:
        optimizer = self.model.optimizer
        if optimizer.learning_rate > self.min_lr:
            optimizer.learning_rate = max(optimizer.learning_rate * self.factor, self.min_lr)
            self.cooldown_counter = self.cooldown
            self.wait = 0
            if self.verbose:
                say(f"epoch {epoch + 1}: learning rate reduced to {optimizer.learning_rate:g}")


class ModelCheckpoint(Monitor):
    """Saves the model after each epoch, or after those that are the best so far.

    `save_freq` saves each so many batches instead, by the figures of the epoch so far. `filepath`
    may hold figures of the logs: "{epoch:02d}-{val_loss:.3f}.safetensors", with epochs from 1 (and
    `batch`, from 1, where there is `save_freq`). `save_weights_only` leaves the optimiser out.
    `keep` is the number of its files that stay, by default all; older ones are removed when a new
    one is written.
    """

    saves_model = True
    remembered: ClassVar = {"best": _figure}

    def __init__(
        self,
        filepath: str | Path,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: Any = "epoch",
        initial_value_threshold: float | None = None,
        keep: int | None = None,
    ) -> None:
        super().__init__(monitor, mode, 0.0, verbose)
        self.filepath = str(path("ModelCheckpoint's filepath", filepath))
        self.keep = None if keep is None else whole("ModelCheckpoint's keep", keep)
        if keep is not None and "{" not in self.filepath:
            raise SettingError(
                f"ModelCheckpoint: keep={keep} of files that have one name, {self.filepath!r}; put "
                "{epoch} into it"
            )
        self.save_freq = frequency("ModelCheckpoint", save_freq)
        self._epoch = self._batches = 0
        self._written: list[str] = []
        self.save_best_only = flag("save_best_only", save_best_only)
        self.save_weights_only = flag("save_weights_only", save_weights_only)
        self.best = (
            None
            if initial_value_threshold is None
            else number("ModelCheckpoint's initial_value_threshold", initial_value_threshold)
        )

    def needs_figure(self) -> bool:
        return self.save_best_only

    def on_train_begin(self, logs: Logs | None = None) -> None:
        if not self.save_weights_only:
            self.model.check_savable()

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._batches += 1
        if self.save_freq is not None and self._batches >= self.save_freq:
            self._batches = 0
            self._save(self._epoch, {**(logs or {}), "batch": batch + 1})

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.save_freq is None:
            self._save(epoch, logs)

    def _save(self, epoch: int, logs: Logs | None) -> None:
        if self.save_best_only:
            value = self.value(logs)
            if value is None or not self.better(value, self.best):
                return
            self.best = value
        path = self.path(epoch, logs)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"ModelCheckpoint cannot make the folder {path.parent} ({error.strerror}); use "
                "another filepath"
            ) from None
        if self.keep is not None:  # before it is written, so that the file remembers itself
            self._written = [name for name in self._written if name != str(path)] + [str(path)]
        if self.save_weights_only:
            self.model.save_weights(path)
        else:
            self.model.save(path)
        if self.verbose:
            say(f"epoch {epoch + 1}: saved {path}")
        if self.keep is not None:
            self._remove_all_but(self.keep)

    def _remove_all_but(self, keep: int) -> None:
        for name in self._written[:-keep]:
            with contextlib.suppress(OSError):
                Path(name).unlink()
        del self._written[:-keep]

    def path(self, epoch: int, logs: Logs | None = None) -> Path:
        """`filepath` with the figures of an epoch filled in."""
        figures = {**(logs or {}), "epoch": epoch + 1}
        try:
            return Path(self.filepath.format(**figures))
        except (KeyError, IndexError, ValueError) as error:
            raise SettingError(
                f"ModelCheckpoint: filepath {self.filepath!r} cannot be filled in ({error}); use "
                f"{', '.join(sorted(figures))}"
            ) from None

    def state(self) -> dict[str, Any]:
        kept = {} if self.keep is None else {"written": list(self._written)}
        return {**super().state(), **kept}

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        # The state comes from a file: remove nothing that this callback cannot have written.
        fixed = re.split(r"\{[^{}]*\}", self.filepath)
        possible = re.compile(r"[^/\\]*".join(map(re.escape, fixed)))
        written = map(str, state.get("written", []))
        self._written = [name for name in written if possible.fullmatch(name)]
