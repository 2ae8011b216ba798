"""Fetches the public data sets into the data folder: resumed, checked, then renamed into place."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from gpukit.core import locks, settings
from gpukit.data.load import EMBEDDED, missing_files
from gpukit.data.sources import EMBEDDED_NAME, SOURCES, Progress, RemoteFile, Source
from gpukit.errors import DataError, SettingError

_CHUNK = 1 << 18
_TICK = 0.2  # seconds between looks at a lock that another process has
_PATIENCE = 600.0  # seconds in which that one must write something: more than its own limits take


def fetch(
    name: str,
    folder: str | Path | None = None,
    progress: Progress | None = None,
    *,
    mirror: str | None = None,
) -> Path:
    """Bring the files of a public data set into a folder, and return the folder.

    `name` is "mnist", "fashion-mnist" or "cifar10"; `folder` is by default
    `settings.data_dir()`/NAME. Files that are there, plain or gzip, are used as they are (`load`
    checks them as it reads). `progress(file, done, total)` is called with bytes; total is None
    where the server does not say it. `mirror` (or GPUKIT_DATA_MIRROR) is an address that is
    asked instead of the official ones, for MIRROR/NAME/FILE.

    A download goes to FILE.part, and takes its own name only when its checksum is right; a broken
    one is resumed, also by a later call. Several processes may fetch at once: one does, the others
    wait for it as long as it gets on. Raises `DataError`, which names the address, the folder and
    the files to put there by hand, and `SettingError` for a mirror that is not an http(s) or file
    address.
    """
    if name == EMBEDDED_NAME:
        return EMBEDDED
    if name not in SOURCES:
        raise DataError(f"unknown data set {name!r}: fetch one of {', '.join(SOURCES)}")
    source = SOURCES[name]
    addresses = _addresses(source, mirror or os.environ.get("GPUKIT_DATA_MIRROR"))
    target = settings.data_dir() / name if folder is None else settings.expanded(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with _only_one(target / ".lock"):
            absent = set(missing_files(name, target))
            for file in source.files:
                if file.name in absent:
                    _fetch_file(file, target, addresses, progress)
    except DataError as error:
        files = ", ".join(missing_files(name, target))
        raise DataError(f"{name}: {error}; try again, or put {files} into {target}") from error
    except OSError as error:
        raise DataError(
            f"{target}: cannot be written ({error.strerror or error}); "
            "make room there, or set GPUKIT_DATA to another folder"
        ) from error
    return target


def _addresses(source: Source, mirror: str | None) -> tuple[str, ...]:
    if not mirror:
        return source.addresses
    if not mirror.startswith(("http://", "https://", "file://")):
        raise SettingError(f"mirror {mirror!r}: use an http://, https:// or file:// address")
    return (f"{mirror.rstrip('/')}/{source.name}/",)


def _fetch_file(
    file: RemoteFile, target: Path, addresses: tuple[str, ...], progress: Progress | None
) -> None:
    """Try the addresses in turn; what one has brought, the next one resumes."""
    # Imported here, because loading the network's modules would slow `import gpukit`.
    from gpukit.data.download import NotDelivered, download

    part = target / f"{file.name}.part"
    if part.is_fifo() or part.is_socket():  # which would be waited for
        part.unlink()
    failures = []
    if not _is_right(part, file):
        for address in addresses:
            url = f"{address}{file.name}"
            try:
                pieced = download(url, part, file.largest, progress, label=file.name)
                if pieced and not _is_right(part, file):
                    # A piece may have been of another file: once more, from the start.
                    part.unlink()
                    download(url, part, file.largest, progress, label=file.name)
            except NotDelivered as error:
                failures.append(str(error))
                continue
            if _is_right(part, file):
                break
            part.unlink()
            failures.append(f"what {url} sends has not the right {file.algorithm} checksum")
        else:
            raise DataError("; ".join(failures))
    part.replace(target / file.name)


def _is_right(path: Path, file: RemoteFile) -> bool:
    """Whether the checksum is the file's; reads no further than its contents can go."""
    digest = hashlib.new(file.algorithm, usedforsecurity=False)
    length = 0
    if not path.is_file():
        return False
    try:
        with gzip.open(path) if file.unpacked is not None else path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                length += len(chunk)
                if file.unpacked is not None and length > file.unpacked:
                    return False
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return False
    return digest.hexdigest() == file.checksum


@contextlib.contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """Within the block, this process alone holds `lock`; others wait. The empty file stays.

    Raises `DataError` where the process that holds it writes nothing for _PATIENCE seconds, counted
    while this one runs: someone stopped it, or its disk hangs.
    """
    # Not waiting for the reader of a pipe that has this name.
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_NONBLOCK", 0), 0o666)
    with os.fdopen(handle, "rb") as file:
        written, still = 0, 0.0
        while not _taken(file):
            before, written = written, _written(lock.parent)
            still = still + _TICK if written == before else 0.0
            if still > _PATIENCE:
                raise DataError(
                    f"another process holds {lock} and has written nothing for {_PATIENCE:g} s; "
                    "continue it, or end it"
                )
            time.sleep(_TICK)
        yield


def _taken(file: BinaryIO) -> bool:
    """Whether the file's lock could be taken; True where there are no locks, as on some network
    file systems: the rename at the end is still whole."""
    try:
        if locks.fcntl is None:  # Windows
            import msvcrt

            locking: Any = msvcrt
            locking.locking(file.fileno(), locking.LK_NBLCK, 1)
        else:
            locks.take(file.fileno())
    except OSError:
        return False
    return True


def _written(folder: Path) -> int:
    """A number that changes when a file of the folder is written to; 0 where one just vanished."""
    with contextlib.suppress(FileNotFoundError):
        return sum(path.stat().st_mtime_ns for path in folder.iterdir())
    return 0
