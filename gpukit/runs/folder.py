"""The folder of a run: its files, and a lock that lets one process at a time write to it."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from gpukit.core.locks import is_at, lock_folder
from gpukit.errors import SettingError
from gpukit.training.checkpoint import remove_leftovers, write_atomically

SETTINGS, HISTORY = "settings.json", "history.jsonl"
BEST, LAST = "best.safetensors", "last.safetensors"
CURVES, FILTERS = "curves.png", "filters.png"
QUARANTINE = "quarantine.jsonl"
FILES = (SETTINGS, HISTORY, BEST, LAST, CURVES, FILTERS, QUARANTINE)
STARTED = "started"  # in settings: when the run was begun or gone on with, in ISO 8601, UTC

_KEPT = re.compile(r"last-([1-9]\d{0,8})\.safetensors")


def new_folder(model: str, root: Path = Path("runs")) -> Path:
    """Make the next free folder runs/MODEL-1, runs/MODEL-2, …; each is one caller's only."""
    number = 1
    try:
        root.mkdir(parents=True, exist_ok=True)
        while True:
            folder = root / f"{model}-{number}"
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                number += 1
    except OSError as error:
        _refuse(folder if root.is_dir() else root, error)


def latest_folder(model: str, root: Path = Path("runs")) -> Path | None:
    """The folder runs/MODEL-N of the run that was started last, by what their settings say."""
    found = [path.parent for path in root.glob(f"{model}-*/{SETTINGS}")]
    return max(found, key=lambda folder: (_started(folder), _number(folder), folder), default=None)


def is_run(folder: Path) -> bool:
    """Whether a run was begun in `folder`, though it may not have saved anything yet."""
    return exists(folder / SETTINGS)


def exists(path: Path) -> bool:
    """Whether there is such a file or folder; no error where a name cannot be one."""
    return os.path.exists(path)  # noqa: PTH110


def taken(folder: Path) -> list[str]:
    """The names of a run's files that are in `folder`."""
    names = [name for name in FILES if exists(folder / name)]
    with contextlib.suppress(OSError, ValueError):  # no folder, or no name of one
        names += sorted(p.name for p in folder.iterdir() if _KEPT.fullmatch(p.name))
    return names


class RunFolder:
    """A folder that this process holds.

    What is written goes into the folder that was locked; where its name is another folder's by now,
    or nobody's, a SettingError says so.
    """

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path = path
        self._descriptor = descriptor

    def check(self) -> None:
        """Raise SettingError where the folder of this name is not the one that is held."""
        if self._descriptor is not None and not is_at(self._descriptor, self.path):
            raise SettingError(
                f"{self.path} was removed or replaced while this run trained in it; the run stops "
                "here and leaves alone what is there now: train again, into another --out"
            )

    def write(self, name: str, content: bytes) -> None:
        """Give the file `name` this content, in one step."""
        self.check()
        write_atomically(self.path / name, content, self._descriptor)

    def write_last(self, content: bytes, keep: int) -> None:
        """Write LAST; of those before it, `keep` - 1 stay as last-2, last-3 …, in order of age."""
        self.check()
        if keep > 1:
            for age in range(keep - 1, 1, -1):
                with contextlib.suppress(FileNotFoundError):
                    places = self._places(_kept(age), _kept(age + 1))
                    os.replace(*places, **self._both())  # noqa: PTH105
            self._copy_last(_kept(2))
        self.write(LAST, content)
        for path in self.path.iterdir():
            match = _KEPT.fullmatch(path.name)
            if match and int(match[1]) > keep:
                with contextlib.suppress(OSError):
                    path.unlink()

    def checkpoints(self) -> list[Path]:
        """The checkpoints that are there: the last one, those before it, the best."""
        before = [p for p in self.path.iterdir() if _KEPT.fullmatch(p.name)]
        before.sort(key=lambda path: int(path.stem.removeprefix("last-")))
        return [p for p in (self.path / LAST, *before, self.path / BEST) if exists(p)]

    def _copy_last(self, name: str) -> None:
        """Give LAST a second name, so that at no time there is no LAST."""
        if not exists(self.path / LAST):
            return  # this is the first save
        source, target = self._places(LAST, name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target, dir_fd=self._descriptor)
        try:
            os.link(source, target, **self._both())
        except OSError:  # a file system without hard links
            self.write(name, (self.path / LAST).read_bytes())

    def _places(self, *names: str) -> list[str | Path]:
        return [self.path / name if self._descriptor is None else name for name in names]

    def _both(self) -> dict[str, Any]:
        return {"src_dir_fd": self._descriptor, "dst_dir_fd": self._descriptor}


@contextlib.contextmanager
def held(path: Path) -> Iterator[RunFolder]:
    """Make the folder where it is missing, and hold it: within the block no other process trains
    in it.

    What an earlier process left half-written is removed. Raises SettingError where the folder
    cannot be made or is held already.
    """
    try:
        descriptor, locked = lock_folder(path)
        try:
            if not os.access(path, os.W_OK):
                raise PermissionError(0, "no permission to write")
        except OSError:
            os.close(descriptor)
            raise
    except BlockingIOError:
        raise SettingError(
            f"{path} is in use: another process trains in it; wait for it, or choose another --out"
        ) from None
    except OSError as error:
        _refuse(path, error)
    folder = RunFolder(path, descriptor if os.name == "posix" else None)
    try:
        if locked:
            for name in (*FILES, *taken(path)):
                remove_leftovers(path / name)
        yield folder
    finally:
        os.close(descriptor)


def _refuse(path: Path, error: OSError) -> NoReturn:
    raise SettingError(
        f"the folder {path} cannot be used ({error.strerror or error}); choose another --out"
    ) from None


def _kept(age: int) -> str:
    """The file of the checkpoint that was the last one `age` - 1 saves ago."""
    return f"last-{age}.safetensors"


def _started(folder: Path) -> str:
    try:
        return str(json.loads((folder / SETTINGS).read_text(encoding="utf-8"))[STARTED])
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return ""  # of an older gpukit, or damaged, which whoever reads it will say


def _number(folder: Path) -> int:
    digits = folder.name.rpartition("-")[2]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else 0
