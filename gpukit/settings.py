"""Settings that hold for the whole process, or for the current context."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from gpukit.errors import SettingError

_strict: ContextVar[bool] = ContextVar("gpukit_strict", default=False)
_training: ContextVar[bool] = ContextVar("gpukit_training", default=False)


def is_strict() -> bool:
    """Whether windows that do not tile their input exactly are errors (the default is floor)."""
    return _strict.get()


@contextmanager
def strict(on: bool = True) -> Iterator[None]:
    """Within the block, an output size that is not whole raises and names the settings that fit."""
    token = _strict.set(on)
    try:
        yield
    finally:
        _strict.reset(token)


def is_training() -> bool:
    """Whether layers such as dropout act as in training; False outside `fit` unless asked for."""
    return _training.get()


@contextmanager
def training_mode(on: bool = True) -> Iterator[None]:
    """Within the block, layers called without an explicit `training` argument train."""
    token = _training.set(on)
    try:
        yield
    finally:
        _training.reset(token)


def cache_dir() -> Path:
    """Folder of compiled kernels and tuning results: GPUKIT_CACHE, else the platform's."""
    return _folder("GPUKIT_CACHE", "user_cache_path")


def data_dir() -> Path:
    """Folder of data sets: GPUKIT_DATA, else the platform's."""
    return _folder("GPUKIT_DATA", "user_data_path")


def _folder(variable: str, platform_folder: str) -> Path:
    chosen = os.environ.get(variable)
    try:
        if chosen:
            return Path(chosen).expanduser()
        import platformdirs

        found = Path(getattr(platformdirs, platform_folder)("gpukit", appauthor=False))
        return found.expanduser()  # as it is where a user has no home: ~ of nobody
    except RuntimeError as error:
        what = f"{variable}={chosen}" if chosen else f"{variable} is not set"
        why = str(error).rstrip(".")
        raise SettingError(f"{what}: {why}; name a folder with {variable}") from None


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
    if count < 1:
        raise SettingError(f"GPUKIT_THREADS={chosen!r}: use a whole number of threads, 1 or more")
    return count
