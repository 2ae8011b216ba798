"""Describes a loaded data set: statistics, and a contact sheet."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukit.data.dataset import Dataset
from gpukit.data.folder import ImageFolder
from gpukit.data.normalise import Normalise
from gpukit.errors import SettingError


def describe(data: Dataset) -> dict[str, Any]:
    """Counts, sizes, and per-channel mean and standard deviation (0 to 1), in JSON's types."""
    normalise = Normalise.from_images(data.train_images).config()
    labels = {"train": data.train_labels, "test": data.test_labels}
    return {
        **_counts(data.name, data.class_names, labels),
        "image_shape": list(data.image_shape),
        "mean": normalise["mean"],
        "std": normalise["std"],
    }


def describe_folder(folder: ImageFolder, name: str) -> dict[str, Any]:
    """Counts of the pictures in a folder, in JSON's types; none of them is read."""
    labels = {"train": folder.train.labels, "val": folder.val.labels}
    return _counts(name, folder.class_names, labels)


def _counts(
    name: str, class_names: tuple[str, ...], labels: dict[str, NDArray[np.int64]]
) -> dict[str, Any]:
    """How many images there are, in all and of each class, by the parts that `labels` are of."""
    found = {part: np.bincount(given, minlength=len(class_names)) for part, given in labels.items()}
    return {
        "name": name,
        **{part: len(given) for part, given in labels.items()},
        "classes": [
            {"name": label, **{part: int(counts[i]) for part, counts in found.items()}}
            for i, label in enumerate(class_names)
        ],
    }


def contact_sheet(data: Dataset, columns: int = 12) -> NDArray[np.uint8]:
    """The first `columns` train images of each class, a row a class: uint8 (rows·H, columns·W, C).

    Empty cells are black.
    """
    if columns < 1:
        raise SettingError(f"columns={columns}: use 1 or more")
    height, width, channels = data.image_shape
    sheet = np.zeros((data.classes, columns, height, width, channels), np.uint8)
    for label in range(data.classes):
        found = np.flatnonzero(data.train_labels == label)[:columns]
        sheet[label, : len(found)] = data.train_images[found]
    # (rows, columns, H, W, C) -> (rows, H, columns, W, C) -> (rows·H, columns·W, C)
    rows = sheet.transpose(0, 2, 1, 3, 4)
    return rows.reshape(data.classes * height, columns * width, channels)
