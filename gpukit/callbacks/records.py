"""Callbacks that record the figures of every epoch."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpukit.callbacks.base import Callback, Logs
from gpukit.core.config import flag, path, show
from gpukit.errors import DataError, SettingError


class History(Callback):
    """Keeps every epoch's figures: `history[key]` is a list, `epoch` the epochs it belongs to."""

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[Any]] = {}

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch.append(epoch)
        for key, value in (logs or {}).items():
            if key != "epoch":
                self.history.setdefault(key, []).append(value)

    def state(self) -> dict[str, Any]:
        return {"epoch": list(self.epoch), "history": {k: list(v) for k, v in self.history.items()}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.epoch = list(state["epoch"])
        self.history = {k: list(v) for k, v in state["history"].items()}


class CSVLogger(Callback):
    """Writes a line of figures an epoch to a file; the first line names the columns.

    An existing file is overwritten unless `append`; a resumed run goes on where its file stood.
    """

    def __init__(self, filename: str | Path, separator: str = ",", append: bool = False) -> None:
        if not isinstance(separator, str) or len(separator) != 1:
            raise SettingError(f"CSVLogger: separator={show(separator)}: use one character")
        self.filename = path("CSVLogger's filename", filename)
        self.separator = separator
        self.append = flag("append", append)
        self._columns: list[str] | None = None
        self._begun = False

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._columns = None
        self._begun = False

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        figures = {"epoch": epoch, **(logs or {})}
        going_on = self._begun or self.append
        if self._columns is None and going_on:
            self._columns = self._columns_of_file()
        rows: list[list[Any]] = []
        if self._columns is None:
            self._columns = list(figures)
            rows.append(self._columns)
        new = [name for name in figures if name not in self._columns]
        if new and going_on:
            self._widen(new)
        rows.append([figures.get(name, "NA") for name in self._columns])
        text = io.StringIO()
        csv.writer(text, delimiter=self.separator, lineterminator="\n").writerows(rows)
        self._write(text.getvalue(), "a" if going_on else "w")
        self._begun = True

    def _widen(self, new: list[str]) -> None:
        """Add columns for figures that the first epoch lacked, such as those of validation."""
        assert self._columns is not None
        self._columns = [*self._columns, *new]
        lines = csv.reader(self._lines()[1:], delimiter=self.separator)
        text = io.StringIO()
        table = [self._columns, *([*line, *["NA"] * len(new)] for line in lines)]
        csv.writer(text, delimiter=self.separator, lineterminator="\n").writerows(table)
        self._write(text.getvalue(), "w")

    def _write(self, text: str, mode: str) -> None:
        try:
            with self.filename.open(mode, encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise DataError(
                f"CSVLogger cannot write {self.filename} ({error.strerror}); use another file"
            ) from None

    def state(self) -> dict[str, Any]:
        return {"lines": len(self._lines()) if self._begun else 0}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Lines written after the state was taken are dropped: their epochs come again."""
        kept, lines = int(state["lines"]), self._lines()
        self._begun = kept > 0 and len(lines) > 0
        if self._begun and len(lines) > kept:
            self.filename.write_text("".join(lines[:kept]), encoding="utf-8")

    def _lines(self) -> list[str]:
        if not self.filename.exists():
            return []
        return self.filename.read_text(encoding="utf-8").splitlines(keepends=True)

    def _columns_of_file(self) -> list[str] | None:
        return next(csv.reader(self._lines()[:1], delimiter=self.separator), None)
