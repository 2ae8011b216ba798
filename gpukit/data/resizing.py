"""Resizes an image as Keras does by default: without antialiasing, at the centres of pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

INTERPOLATIONS = ("bilinear", "nearest")


def sources(
    size: int, of: int, interpolation: str
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """For each of `size` pixels along an axis of length `of`: the two it lies between, and the
    weight (size,) of the second."""
    at = (np.arange(size) + 0.5) * (of / size)
    if interpolation == "nearest":
        nearest = np.minimum(at.astype(np.intp), of - 1)
        return nearest, nearest, np.zeros(size, np.float32)
    at = np.maximum(at - 0.5, 0)
    low = np.minimum(at.astype(np.intp), of - 1)
    return low, np.minimum(low + 1, of - 1), (at - low).astype(np.float32)


def central(height: int, width: int, size: tuple[int, int]) -> tuple[slice, slice]:
    """The largest central window of the aspect ratio of `size`, as Keras cuts it."""
    rows = min(height, int(width * size[0] / size[1]))
    columns = min(width, int(height * size[1] / size[0]))
    rows, columns = max(rows, 1), max(columns, 1)
    top, left = (height - rows) // 2, (width - columns) // 2
    return slice(top, top + rows), slice(left, left + columns)


def resize(
    image: NDArray[Any], size: tuple[int, int], interpolation: str, *, crop: bool = False
) -> NDArray[np.float32]:
    """(H, W, C) → float32 (*size, C); with `crop`, of its `central` window."""
    if crop:
        image = image[central(image.shape[0], image.shape[1], size)]
    height, width = image.shape[:2]
    low, high, weight = sources(size[0], height, interpolation)
    rows = weight[:, np.newaxis, np.newaxis]
    image = image[low] * (1 - rows) + image[high] * rows
    low, high, weight = sources(size[1], width, interpolation)
    columns = weight[:, np.newaxis]
    resized = image[:, low] * (1 - columns) + image[:, high] * columns
    return resized.astype(np.float32, copy=False)
