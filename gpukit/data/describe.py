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
    normalise = Normalise.from_images(data.train_images)
    counts = [
        np.bincount(labels, minlength=data.classes)
        for labels in (data.train_labels, data.test_labels)
    ]
    return {
        "name": data.name,
        "train": len(data.train_images),
        "test": len(data.test_images),
        "image_shape": list(data.image_shape),
        "classes": [
            {"name": name, "train": int(train), "test": int(test)}
            for name, train, test in zip(data.class_names, *counts, strict=True)
        ],
        "mean": normalise.config()["mean"],
        "std": normalise.config()["std"],
    }


def describe_folder(folder: ImageFolder, name: str) -> dict[str, Any]:
    """Counts of the pictures in a folder, in JSON's types; none of them is read."""
    counts = [
        np.bincount(items.labels, minlength=len(folder.class_names))
        for items in (folder.train, folder.val)
    ]
    return {
        "name": name,
        "train": len(folder.train),
        "val": len(folder.val),
        "classes": [
            {"name": label, "train": int(train), "val": int(val)}
            for label, train, val in zip(folder.class_names, *counts, strict=True)
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
