"""Locks files and folders, so that one process at a time writes to them."""

from __future__ import annotations

import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def lock_folder(path: Path) -> tuple[int, bool]:
    """(a descriptor of the folder `path`, made where it is missing; whether it is locked).

    The folder itself is locked, so that no file is left; the lock goes with the process. Raises
    BlockingIOError where another process has it, and OSErrors.
    """
    while True:
        path.mkdir(parents=True, exist_ok=True)
        if os.name != "posix":  # Windows, whose folders cannot be locked
            return os.open(os.devnull, os.O_RDONLY), True
        descriptor = os.open(path, os.O_RDONLY)
        try:
            locked = take(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            raise
        if is_at(descriptor, path):
            return descriptor, locked
        os.close(descriptor)  # removed, and made anew, between the two steps


def take(descriptor: int) -> bool:
    """Lock an open file or folder: whether there are locks here. BlockingIOError where another
    process has it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a file system without locks
        return False
    return True


def is_at(descriptor: int, path: Path, *, follow_links: bool = True) -> bool:
    """Whether `path` is the file or folder that is open as `descriptor`."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat(follow_symlinks=follow_links))
    except OSError:
        return False
