"""BackupAndRestore: an interrupted `fit` goes on where it stopped."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from gpukit.callbacks.base import Callback, Logs
from gpukit.core.config import flag, path, show, whole
from gpukit.errors import CheckpointError, SettingError


def frequency(name: str, save_freq: Any) -> int | None:
    """Keras's `save_freq`: a number of batches, or None for "epoch"."""
    if isinstance(save_freq, str) and save_freq == "epoch":
        return None
    if isinstance(save_freq, (str, bool)):
        raise SettingError(
            f"{name}: save_freq={show(save_freq)}: use 'epoch' or a number of batches"
        )
    return whole(f"{name}'s save_freq", save_freq)


class BackupAndRestore(Callback):
    """Saves model and state of training in `backup_dir` after each epoch, or each `save_freq`
    batches; the same call of `fit` in another process then goes on from there, to the bits of a
    run without interruption.

    The file is removed at the end of `fit` unless `delete_checkpoint` is False. It is replaced in
    one step, so that `double_checkpoint`, Keras's guard against damaged files, has nothing to do.
    """

    saves_model = True

    def __init__(
        self,
        backup_dir: str | Path,
        save_freq: Any = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ) -> None:
        self.backup_dir = path("BackupAndRestore's backup_dir", backup_dir)
        self.save_freq = frequency("BackupAndRestore", save_freq)
        self.double_checkpoint = flag("double_checkpoint", double_checkpoint)
        self.delete_checkpoint = flag("delete_checkpoint", delete_checkpoint)
        self.file = self.backup_dir / "backup.safetensors"
        self._batches = 0

    def restore(self, model: Any) -> bool:
        if not self.file.exists():
            return False
        model.load(self.file)
        return True

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.model.check_savable()
        try:
            self.backup_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"BackupAndRestore cannot make the folder {self.backup_dir} ({error.strerror}); "
                "use another backup_dir"
            ) from None

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._batches += 1
        if self.save_freq is not None and self._batches >= self.save_freq:
            self._batches = 0
            self.model.save(self.file)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.save_freq is None:
            self.model.save(self.file)

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.delete_checkpoint:
            with contextlib.suppress(OSError):
                self.file.unlink()
                self.backup_dir.rmdir()  # where it holds nothing else
