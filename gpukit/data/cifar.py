"""Reader of CIFAR-10's binary archive, never of its pickled one.

Source: "Binary version" on cs.toronto.edu/~kriz/cifar.html. A record is one byte of label and
3072 bytes of image: 1024 red, 1024 green, 1024 blue, each plane row by row.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpukit.data.archive import read_files
from gpukit.data.sources import CIFAR_ARCHIVE
from gpukit.errors import DataError

TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILES = ("test_batch.bin",)
FOLDER = "cifar-10-batches-bin"

_RECORD = 1 + 3 * 32 * 32
_LARGEST_FILE = 10_000 * _RECORD
# The archive unpacks to 184.4 MB; what goes far beyond is not CIFAR-10.
LARGEST_ARCHIVE = 8 * _LARGEST_FILE
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
    files = read_files(
        source, _NAMES, _check_size, largest=LARGEST_ARCHIVE, way_out=_WAY_OUT, to_the_end=True
    )
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


def _check_size(path: Path, size: int) -> None:
    if size == 0 or size % _RECORD or size > _LARGEST_FILE:
        raise DataError(
            f"{path}: truncated or not CIFAR-10: {size} bytes, not 1 to 10,000 records "
            f"of {_RECORD}; {_WAY_OUT}"
        )
