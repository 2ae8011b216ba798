"""Reads files from untrusted sources: no endless ones, and every error names the file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from gpukit.errors import DataError, GpukitError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@contextmanager
def reading(
    path: str | Path, error: type[GpukitError] = DataError, way_out: str = "use a whole file"
) -> Iterator[None]:
    """Within the block, whatever readers raise becomes an `error` with the file's name.

    Decoders raise nearly anything on damaged files, so the block must hold nothing but reading.
    """
    try:
        yield
    except GpukitError:
        raise
    except FileNotFoundError:
        raise error(f"{path}: there is no such file") from None
    except MemoryError as found:
        raise error(f"{path}: there is not enough memory to read it") from found
    except OSError as found:
        if found.strerror is None:  # a decoder's
            raise error(f"{path}: damaged or truncated ({reason(found)}); {way_out}") from found
        raise error(f"{path}: cannot be read ({found.strerror})") from found
    except Exception as found:
        raise error(f"{path}: damaged or truncated ({reason(found)}); {way_out}") from found


def regular(path: str | Path, error: type[GpukitError] = DataError) -> BinaryIO:
    """The file at `path`, open for reading; an `error` for a pipe or a device, which may never end.

    Raises OSError as `open` does.
    """
    try:
        mode = Path(path).stat().st_mode
    except ValueError as found:  # a name with a zero byte
        raise error(f"{path}: cannot be read ({reason(found)})") from None
    _refuse(path, mode, error)
    # Do not block on a pipe that has replaced it.
    descriptor = os.open(
        path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    )
    try:
        _refuse(path, os.fstat(descriptor).st_mode, error)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_at_most(most: int, path: str | Path, error: type[GpukitError] = DataError) -> bytes:
    """The regular file at `path`, whole; an `error` where it has more than `most` bytes."""
    with regular(path, error) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise error(f"{path}: has more than {most} bytes, which is none of gpukit's; remove it")
    return content


def reason(error: BaseException) -> str:
    """The first line of what an error says, else its kind."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0] if text.strip() else type(error).__name__


def _refuse(path: str | Path, mode: int, error: type[GpukitError]) -> None:
    if not stat.S_ISREG(mode):
        raise error(f"{path}: is {_KINDS.get(stat.S_IFMT(mode), 'special')}, no regular file")
