"""The folder of a run: what is in it, whose it is, and that one process at a time writes to it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from gpukit.errors import SettingError
from gpukit.training.checkpoint import remove_leftovers

SETTINGS, HISTORY = "settings.json", "history.jsonl"
BEST, LAST = "best.safetensors", "last.safetensors"
CURVES, FILTERS = "curves.png", "filters.png"
QUARANTINE = "quarantine.jsonl"
FILES = (SETTINGS, HISTORY, BEST, LAST, CURVES, FILTERS, QUARANTINE)


def new_folder(model: str, root: Path = Path("runs")) -> Path:
    """The next free folder runs/MODEL-1, runs/MODEL-2, …"""
    number = 1
    while (root / f"{model}-{number}").exists():
        number += 1
    return root / f"{model}-{number}"


def latest_folder(model: str, root: Path = Path("runs")) -> Path | None:
    """The folder runs/MODEL-N of the run that was last begun or saved."""
    found = {p.parent for name in (SETTINGS, LAST) for p in root.glob(f"{model}-*/{name}")}
    return max((folder for folder in found if is_run(folder)), key=_touched, default=None)


def is_run(folder: Path) -> bool:
    """Whether a run was begun in `folder`, though it may not have saved anything yet."""
    return exists(folder / SETTINGS)


def exists(path: Path) -> bool:
    """Whether there is such a file or folder; no error where a name cannot be one."""
    return os.path.exists(path)  # noqa: PTH110


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make `folder` where it is missing, and hold it: within the block no other process trains in
    it.

    What an earlier process left half-written is removed. Raises SettingError where the folder
    cannot be made or is held already.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(0, "no permission to write")
        descriptor = _lock(folder)
    except BlockingIOError:
        raise SettingError(
            f"{folder} is in use: another process trains in it; wait for it, or choose another "
            "--out"
        ) from None
    except OSError as error:
        raise SettingError(
            f"the folder {folder} cannot be used ({error.strerror or error}); choose another --out"
        ) from None
    try:
        for name in FILES:
            remove_leftovers(folder / name)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _lock(folder: Path) -> int | None:
    """Lock the folder itself, so that no file is left; the lock goes with the process."""
    try:
        import fcntl
    except ImportError:  # Windows, whose folders cannot be locked
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:  # a file system without locks
        os.close(descriptor)
        return None
    return descriptor


def _touched(folder: Path) -> float:
    times = [p.stat().st_mtime for p in (folder / SETTINGS, folder / LAST) if p.exists()]
    return max(times)
