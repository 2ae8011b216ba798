"""Settings that hold for the whole process, or for the current context."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import AbstractContextManager
from contextvars import ContextVar
from pathlib import Path

from gpukit.core.blocks import within
from gpukit.errors import SettingError

MOST_THREADS = 1024

_strict: ContextVar[bool] = ContextVar("gpukit_strict", default=False)
_training: ContextVar[bool] = ContextVar("gpukit_training", default=False)


def is_strict() -> bool:
    """Whether windows that do not tile their input exactly are errors (the default is floor)."""
    return _strict.get()


def strict(on: bool = True) -> AbstractContextManager[None]:
    """Within the block, an output size that is not whole raises and names the settings that fit."""
    return within(_strict, on)


def is_training() -> bool:
    """Whether layers such as dropout act as in training; False outside `fit` unless asked for."""
    return _training.get()


def training_mode(on: bool = True) -> AbstractContextManager[None]:
    """Within the block, layers called without an explicit `training` argument train."""
    return within(_training, on)


def cache_dir() -> Path:
    """Folder of caches: GPUKIT_CACHE, else the platform's."""
    return _folder("GPUKIT_CACHE", "user_cache_path")


def data_dir() -> Path:
    """Folder of data sets: GPUKIT_DATA, else the platform's."""
    return _folder("GPUKIT_DATA", "user_data_path")


def expanded(path: str | Path) -> Path:
    """`path` with the folder of a user for ~. Raises SettingError where there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise SettingError(
            f"{path}: there is no such user's home folder here; write the path without ~"
        ) from None


def _folder(variable: str, platform_folder: str) -> Path:
    chosen = os.environ.get(variable)
    if chosen:
        try:
            return expanded(chosen)
        except SettingError as error:
            raise SettingError(f"{variable}={error}, or name a folder with {variable}") from None
    import platformdirs

    try:
        folder = Path(getattr(platformdirs, platform_folder)("gpukit", appauthor=False))
    except RuntimeError:
        folder = Path("~")
    # Older platformdirs return a folder named ~ where there is no home.
    return folder if folder.is_absolute() else _homeless(variable) / platform_folder


def _homeless(variable: str) -> Path:
    """A folder under the temporary one, for a user (of a container) who has no home."""
    folder = Path(tempfile.gettempdir()) / f"gpukit-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        # Another user could create it first and put code there that this process would run.
        ours = found.st_uid == os.getuid() and stat.S_ISDIR(found.st_mode)
        if ours and not found.st_mode & 0o077:
            return folder
    except OSError:
        pass
    raise SettingError(f"this user has no home folder, and {folder} is not theirs; set {variable}")


def threads() -> int:
    """Threads for CPU work: GPUKIT_THREADS, else the cores that this process may use."""
    chosen = os.environ.get("GPUKIT_THREADS")
    if chosen is None or chosen == "":
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1
    try:
        count = int(chosen)
    except ValueError:
        count = 0
    if not 1 <= count <= MOST_THREADS:
        raise SettingError(
            f"GPUKIT_THREADS={chosen[:40]!r}: use a whole number of threads, 1 to {MOST_THREADS}"
        )
    return count
