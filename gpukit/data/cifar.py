"""Reader of CIFAR-10's binary archive, never of its pickled one.

Source: "Binary version" on cs.toronto.edu/~kriz/cifar.html. A record is one byte of label and
3072 bytes of image: 1024 red, 1024 green, 1024 blue, each plane row by row.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from gpukit.data.sources import CIFAR_ARCHIVE
from gpukit.errors import DataError

TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILES = ("test_batch.bin",)
FOLDER = "cifar-10-batches-bin"

_RECORD = 1 + 3 * 32 * 32
_LARGEST_FILE = 10_000 * _RECORD
# The archive unpacks to 184.4 MB; what goes far beyond is not CIFAR-10.
_LARGEST_ARCHIVE = 8 * _LARGEST_FILE
_WAY_OUT = "delete it and run `gpukit data fetch cifar10`"

Part = tuple[NDArray[np.uint8], NDArray[np.int64]]


def find_cifar(folder: Path) -> Path | None:
    """The archive or the folder of .bin files that `folder` holds or is, else None."""
    for candidate in (folder / CIFAR_ARCHIVE, folder / FOLDER, folder):
        if candidate.is_file() or any((candidate / name).is_file() for name in _NAMES):
            return candidate
    return None


def read_cifar(source: Path) -> tuple[Part, Part]:
    """Train and test part: images uint8 (N, 32, 32, 3), labels int64 (N,), as stored.

    `source` is the archive, read without unpacking it to disk, or the folder of .bin files.
    Raises `DataError` for anything missing, truncated or beyond CIFAR-10's sizes.
    """
    if source.is_dir():
        files = read_folder(source, _NAMES, _check_size)
    else:
        files = _from_archive(source)
    missing = [name for name in _NAMES if name not in files]
    if missing:
        raise DataError(f"{source}: lacks {', '.join(missing)}; {_WAY_OUT}")
    return _part(files, TRAIN_FILES), _part(files, TEST_FILES)


_NAMES = TRAIN_FILES + TEST_FILES


def _part(files: dict[str, bytes], names: tuple[str, ...]) -> Part:
    # (N, 3073) -> label (N,), planes (N, 3, 32, 32) -> (N, 32, 32, 3)
    records = [np.frombuffer(files[name], np.uint8).reshape(-1, _RECORD) for name in names]
    images = np.empty((sum(map(len, records)), 32, 32, 3), np.uint8)
    start = 0
    for block in records:
        planes = block[:, 1:].reshape(-1, 3, 32, 32)
        images[start : start + len(block)] = planes.transpose(0, 2, 3, 1)
        start += len(block)
    return images, np.concatenate([block[:, 0] for block in records]).astype(np.int64)


def read_folder(
    folder: Path, names: Sequence[str], check_size: Callable[[Path, int], None]
) -> dict[str, bytes]:
    """The contents of those of `names` that are in `folder`; `check_size` may refuse each."""
    files = {}
    for name in names:
        path = folder / name
        if not path.is_file():
            continue
        check_size(path, path.stat().st_size)
        try:
            files[name] = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    return files


def _from_archive(archive: Path) -> dict[str, bytes]:
    files = {}
    try:
        with archive.open("rb") as file:
            for name, content, size in _members(archive, file):
                _check_size(archive / name, size)
                files[name] = content.read()
                if len(files[name]) != size:
                    raise DataError(f"{archive}: ends inside {name}; {_WAY_OUT}")
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{archive}: damaged or truncated ({reason}); {_WAY_OUT}") from error
    except OSError as error:
        raise DataError(f"{archive}: cannot be read ({error.strerror or error})") from error
    return files


def _members(archive: Path, file: BinaryIO) -> Iterator[tuple[str, BinaryIO, int]]:
    """(base name, stream, size) of the members that are CIFAR's; their folders are ignored."""
    unpacked = cast(BinaryIO, Bounded(gzip.GzipFile(fileobj=file), archive, _WAY_OUT))
    with tarfile.open(fileobj=unpacked, mode="r|") as tar:
        for member in tar:
            name = PurePosixPath(member.name).name
            if name in _NAMES and member.isfile():
                content = tar.extractfile(member)
                assert content is not None  # regular files have one
                yield name, cast(BinaryIO, content), member.size
    while unpacked.read(1 << 16):  # to the end, where gzip's checksum is
        pass


def _check_size(path: Path, size: int) -> None:
    if size == 0 or size % _RECORD or size > _LARGEST_FILE:
        raise DataError(
            f"{path}: truncated or not CIFAR-10: {size} bytes, not 1 to 10,000 records "
            f"of {_RECORD}; {_WAY_OUT}"
        )


class Bounded(io.RawIOBase):
    """Reads on until more bytes have come than CIFAR-10 has, then refuses: a small archive can hold
    terabytes of zeros."""

    def __init__(self, stream: gzip.GzipFile, archive: Path, way_out: str) -> None:
        self._stream, self._archive, self._left = stream, archive, _LARGEST_ARCHIVE
        self._way_out = way_out

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(min(size, 1 << 20) if size >= 0 else 1 << 20)
        self._left -= len(data)
        if self._left < 0:
            raise DataError(f"{self._archive}: unpacks to more than CIFAR-10 does; {self._way_out}")
        return data
