"""Orders that a seed fixes, the same in every version of NumPy, and parts held out by them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpukit.errors import DataError, SettingError

_SPLIT = 1  # stream apart from the epochs' orders, which are stream 0


def permutation(count: int, seed: int, *stream: int) -> NDArray[np.intp]:
    """The indices 0 … count - 1 in an order that (seed, stream) fixes; streams are independent.

    NumPy promises that the raw words of a bit generator never change, but not what
    `Generator.permutation` makes of them, and a resumed run must find its order again: the order
    is that of the words themselves. Raises `SettingError` for a negative seed.
    """
    if seed < 0:
        raise SettingError(f"seed {seed}: use 0 or more")
    words = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=stream)).random_raw(count)
    return np.argsort(words, kind="stable")


def held_out(
    count: int, fraction: float, seed: int, *stream: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """`fraction` of the indices 0 … count - 1, at least one where it is above 0, and the others, of
    which at least one is left."""
    held = min(max(round(count * fraction), int(fraction > 0)), max(count - 1, 0))
    order = permutation(count, seed, *stream)
    return order[:held], order[held:]


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
    validation, train = held_out(count, fraction, seed, _SPLIT)
    return images[train], labels[train], images[validation], labels[validation]
