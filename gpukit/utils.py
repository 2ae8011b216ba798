"""Small helpers that Keras programs expect: `to_categorical`, `set_random_seed` …"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpukit.core.config import show, whole
from gpukit.errors import DataError, SettingError

_seeds = np.random.default_rng()


def set_random_seed(seed: int) -> None:
    """Make the seeds of all models and layers made from now on a function of `seed`."""
    global _seeds
    _seeds = np.random.default_rng(whole("seed", seed, low=0))


def default_seed() -> int:
    """A seed for something that was given none: another one at each call."""
    return int(_seeds.integers(2**63))


def to_categorical(labels: Any, num_classes: int | None = None, dtype: Any = "float32") -> Any:
    """Class numbers of any shape as one-hot vectors: (…) → (…, num_classes).

    A last axis of length 1 is dropped, as in Keras. `num_classes` is the largest label + 1 unless
    given. Raises DataError for a label out of range or not whole.
    """
    try:
        numbers = whole_labels(np.asarray(labels))
        kind = np.dtype(dtype)
    except DataError:
        raise
    except (TypeError, ValueError) as error:
        raise SettingError(
            f"to_categorical: labels {show(labels)}, dtype={show(dtype)}: use whole numbers and a "
            f"number type ({error})"
        ) from None
    if kind.kind not in "biuf":
        raise SettingError(f"to_categorical: dtype={show(dtype)}: use a number type")
    shape = numbers.shape[:-1] if numbers.ndim > 1 and numbers.shape[-1] == 1 else numbers.shape
    flat = numbers.reshape(-1)
    classes = (
        int(flat.max(initial=-1)) + 1 if num_classes is None else whole("num_classes", num_classes)
    )
    if flat.size and (flat.min() < 0 or flat.max() >= classes):
        wrong = flat.min() if flat.min() < 0 else flat.max()
        raise DataError(
            f"label {wrong} is out of range: {classes} classes are numbered 0 to {classes - 1}"
        )
    if classes * max(flat.size, 1) >= 1 << 47:
        raise SettingError(f"to_categorical: {classes} classes are too many for one-hot vectors")
    vectors = np.zeros((flat.size, classes), kind)
    vectors[np.arange(flat.size), flat] = 1
    return vectors.reshape(*shape, classes)


def whole_labels(labels: np.ndarray) -> np.ndarray:
    """Labels as integers; DataError where a floating one is not whole."""
    if labels.dtype.kind in "iu":
        return labels
    if labels.dtype.kind == "b":
        return labels.astype(np.int64)
    if labels.dtype.kind == "f":
        whole = np.isfinite(labels) & (np.floor(labels) == labels)
        if bool(whole.all()):
            return labels.astype(np.int64)
        wrong = labels[~whole].reshape(-1)[0]
        raise DataError(f"label {wrong} is no class number; labels are whole numbers from 0")
    raise DataError(f"labels of type {labels.dtype} are no class numbers; use integers")


class PyDataset:
    """Base of data sets that give batch i as [i]: (x, y). `fit`, `evaluate`, `predict` take one.

    A subclass defines `__len__`, the number of batches, and `__getitem__`; `on_epoch_begin` and
    `on_epoch_end` are called around each epoch. Batches are asked for one at a time, in training's
    own process: `workers` other than 1 are refused (`data.ImageFeed` has them).
    """

    def __init__(
        self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10
    ) -> None:
        if workers not in (0, 1) or use_multiprocessing:
            raise SettingError(
                f"{type(self).__name__}: workers={show(workers)}, use_multiprocessing="
                f"{show(use_multiprocessing)}: batches are asked for one at a time; leave both "
                "out, or use data.ImageFeed(workers=…)"
            )

    def __len__(self) -> int:
        """The number of batches."""
        raise NotImplementedError

    def __getitem__(self, index: int) -> Any:
        """Batch `index`: (x (N, …), y (N, …))."""
        raise NotImplementedError

    def on_epoch_begin(self) -> None:
        """Called before the first batch of an epoch."""

    def on_epoch_end(self) -> None:
        """Called after the last batch of an epoch."""


Sequence = PyDataset
