"""The run saver: writes a run's files while it trains, and stops it cleanly on a signal."""

from __future__ import annotations

import json
import math
import signal
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType

from gpukit import ops
from gpukit.callbacks import Callback
from gpukit.core.signals import handled_by
from gpukit.errors import SettingError
from gpukit.inspect import pictures
from gpukit.model.saving import Base, content
from gpukit.runs.folder import BEST, HISTORY, LAST, RunFolder


class Interrupted(BaseException):
    """The signal `signum` asked the run to stop; it can go on from what is saved in `folder`.

    `saved`: where it stands was saved because of the signal.
    """

    def __init__(self, signum: int, folder: Path, saved: bool) -> None:
        super().__init__(f"stopped by signal {signum}{', saved' if saved else ''} in {folder}")
        self.signum = signum
        self.folder = folder
        self.saved = saved


class RunSaver(Callback):
    """Saves the last and the best epoch and the history into `folder`.

    Of the last checkpoints it keeps `keep`. A signal stops the run after the step under way, of
    training or validation, saved; a loss or weight that is not finite stops it unsaved, so that the
    files stay those of the last good epoch.
    """

    saves_model = True

    def __init__(self, folder: RunFolder, keep: int = 1) -> None:
        super().__init__()
        self._folder = folder
        self._keep = keep
        self._training = False
        self._signals: list[int] = []

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._training = True

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self._training = False
        if self._signals:  # since the last epoch was saved
            raise Interrupted(self._signals[0], self._folder.path, saved=True)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        model = self.model
        self._check("val_loss", logs, epoch, f"in epoch {epoch + 1}")
        # Started on every device before the first result is waited for.
        flags = [ops.all_finite(parameter) for parameter in model.parameters]
        for parameter, finite in zip(model.parameters, flags):
            if not finite:
                self._diverged(f"{parameter.name} is not finite after epoch {epoch + 1}", epoch)
        history = model.training_state.history
        if pictures.best_epoch(history) == len(history) - 1:
            self._folder.write(BEST, content(model, self._folder.path / BEST))
        self._save_last()
        self.write_history(model)
        if self._signals:
            raise Interrupted(self._signals[0], self._folder.path, saved=True)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        epoch = self.model.training_state.epoch
        if self.model.not_finite:
            self._diverged(self.model.not_finite, epoch)
        self._stop_if_asked()

    def on_test_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._stop_if_asked()

    def write_history(self, model: Base) -> None:
        """Write the figures of all epochs, one object a line."""
        lines = [json.dumps(logs) for logs in model.training_state.history]
        self._folder.write(HISTORY, "".join(f"{x}\n" for x in lines).encode())

    def watching_signals(self) -> AbstractContextManager[None]:
        """Within the block SIGINT, SIGTERM and SIGHUP end the run: `fit` after the step under way,
        all else at once. Signals come in the main thread; elsewhere nothing changes."""
        return handled_by(self.ask)

    def ask(self, signum: int, frame: FrameType | None) -> None:
        """Signal handler: the loop stops at its next chance; a second Ctrl-C stops at once."""
        self._signals.append(signum)
        if not self._training or self._signals.count(signal.SIGINT) > 1:
            raise Interrupted(signum, self._folder.path, saved=False)

    def _stop_if_asked(self) -> None:
        if self._signals:
            self._save_last()
            raise Interrupted(self._signals[0], self._folder.path, saved=True)

    def _save_last(self) -> None:
        self._folder.write_last(content(self.model, self._folder.path / LAST), self._keep)

    def _check(self, name: str, logs: dict[str, float] | None, epoch: int, when: str) -> None:
        value = (logs or {}).get(name, 0.0)
        if not math.isfinite(value):
            self._diverged(f"{name} became {value} {when}", epoch)

    def _diverged(self, what: str, epoch: int) -> None:
        out = self._folder.path
        kept = f"; {out} keeps epoch {epoch}" if (out / LAST).exists() else ""
        rate = self.model.optimizer.learning_rate
        raise SettingError(
            f"{self.model.name}: {what}, at a learning rate of {rate:.3g}; train again with a "
            f"smaller --lr{kept}"
        )
