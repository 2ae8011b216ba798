"""Splits a validation part off the train part."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpukit.data.order import held_out
from gpukit.errors import DataError, SettingError

_STREAM = 1  # apart from the epochs' orders, which are stream 0


def train_validation_split(
    images: NDArray[np.uint8], labels: NDArray[np.int64], fraction: float = 0.1, seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
    """Shuffle, and take `fraction` of the images for validation.

    Returns (train images, train labels, validation images, validation labels), copies. The
    validation part has round(N·fraction) images, but at least one where fraction > 0 and N > 1;
    at least one stays for training. Raises `SettingError` for a fraction outside [0, 1) and
    `DataError` where images and labels differ in number.
    """
    if not 0 <= fraction < 1:
        raise SettingError(f"validation split {fraction}: use a fraction from 0 to below 1")
    count = len(images)
    if count != len(labels):
        raise DataError(f"{count} images and {len(labels)} labels; there must be one an image")
    validation, train = held_out(count, fraction, seed, _STREAM)
    return images[train], labels[train], images[validation], labels[validation]
