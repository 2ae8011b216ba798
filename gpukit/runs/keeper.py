"""Keeps the files of a run up to date while it trains, and stops it cleanly."""

from __future__ import annotations

import json
import math
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from gpukit import ops
from gpukit.callbacks import Callback
from gpukit.errors import SettingError
from gpukit.inspect import pictures
from gpukit.models.base import Base
from gpukit.models.saving import save
from gpukit.runs.folder import BEST, HISTORY, LAST
from gpukit.training.checkpoint import write_atomically


class Interrupted(BaseException):
    """A signal asked the run to stop; its state is saved. `signum` is the signal."""

    def __init__(self, signum: int, folder: Path) -> None:
        super().__init__(f"stopped by signal {signum}, saved in {folder}")
        self.signum = signum
        self.folder = folder


class Keeper(Callback):
    """Saves the last and the best epoch and the history into `folder`.

    A signal stops the run after the step under way, saved; a loss or weight that is not finite
    stops it unsaved, so that the files stay those of the last good epoch.
    """

    saves_model = True

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._signal: int | None = None

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        model = self.model
        self._check("val_loss", logs, epoch, f"in epoch {epoch + 1}")
        # All are looked at where they lie before the first answer is waited for.
        flags = [ops.all_finite(parameter) for parameter in model.parameters]
        for parameter, finite in zip(model.parameters, flags):
            if not finite:
                self._diverged(f"{parameter.name} is not finite after epoch {epoch + 1}", epoch)
        history = model.training_state.history
        if pictures.best_epoch(history) == len(history) - 1:
            save(model, self._folder / BEST)
        save(model, self._folder / LAST)
        self.write_history(model)
        self._stop_if_asked()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        epoch = self.model.training_state.epoch
        if self.model.not_finite:
            self._diverged(self.model.not_finite, epoch)
        if self._signal is not None:
            save(self.model, self._folder / LAST)
            self._stop_if_asked()

    def write_history(self, model: Base) -> None:
        """Write the figures of all epochs, one object a line."""
        lines = [json.dumps(logs) for logs in model.training_state.history]
        write_atomically(self._folder / HISTORY, "".join(f"{x}\n" for x in lines).encode())

    def watching_signals(self) -> SignalWatch:
        """Within the block SIGINT and SIGTERM end the run after the step under way."""
        return SignalWatch(self)

    def ask(self, signum: int, frame: FrameType | None) -> None:
        """Signal handler: the loop stops at its next chance; a second signal stops at once."""
        if self._signal is not None:
            raise KeyboardInterrupt
        self._signal = signum

    def _stop_if_asked(self) -> None:
        if self._signal is not None:
            raise Interrupted(self._signal, self._folder)

    def _check(self, name: str, logs: dict[str, float] | None, epoch: int, when: str) -> None:
        value = (logs or {}).get(name, 0.0)
        if not math.isfinite(value):
            self._diverged(f"{name} became {value} {when}", epoch)

    def _diverged(self, what: str, epoch: int) -> None:
        kept = f"; {self._folder} keeps epoch {epoch}" if (self._folder / LAST).exists() else ""
        rate = self.model.optimizer.learning_rate
        raise SettingError(
            f"{self.model.name}: {what}, at a learning rate of {rate:.3g}; train again with a "
            f"smaller --lr{kept}"
        )


class SignalWatch:
    """Passes SIGINT and SIGTERM on to a Keeper, where signals come at all: in the main thread."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._before[signum] = signal.signal(signum, self._keeper.ask)

    def __exit__(self, *exception: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
