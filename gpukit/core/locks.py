"""Locks folders, so that one process at a time writes to them."""

from __future__ import annotations

import os
from pathlib import Path


def lock_folder(path: Path) -> tuple[int, bool]:
    """(a descriptor of the folder `path`, made where it is missing; whether it is locked).

    The folder itself is locked, so that no file is left; the lock goes with the process. Raises
    BlockingIOError where another process has it, and OSErrors.
    """
    while True:
        path.mkdir(parents=True, exist_ok=True)
        if os.name != "posix":  # Windows, whose folders cannot be locked
            return os.open(os.devnull, os.O_RDONLY), True
        import fcntl

        descriptor = os.open(path, os.O_RDONLY)
        locked = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise
        except OSError:  # a file system without locks
            locked = False
        if is_folder(descriptor, path):
            return descriptor, locked
        os.close(descriptor)  # removed, and made anew, between the two steps


def is_folder(descriptor: int, path: Path) -> bool:
    """Whether `path` is the folder that is open as `descriptor`."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False
