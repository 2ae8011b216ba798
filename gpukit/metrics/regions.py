"""Metrics of pixels by class: the confusion matrix, and intersection over union."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpukit import losses
from gpukit.core.config import flag, number, show, whole, wholes
from gpukit.errors import SettingError, ShapeError
from gpukit.losses.base import last_axis
from gpukit.metrics.base import Metric, Sums, check_class_numbers, host, ratio, weights_of
from gpukit.utils import whole_labels

_MOST = 4096  # classes: counts of their pairs take 128 MB


class ConfusionMatrix(Metric):
    """Counts (K, K): rows are the true classes, columns the predicted ones.

    Labels are class numbers (N, …) or one-hot (N, …, K). Predictions (N, …, K): the largest is the
    class; of two classes also (N,) or (N, …, 1), above 0.5.
    """

    def __init__(self, num_classes: int, name: str = "confusion_matrix", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.num_classes = _classes("ConfusionMatrix", num_classes)

    def update(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Sums:
        labels, scores = host(y_true), host(y_pred)
        classes = self.num_classes
        if scores.ndim > 1 and scores.shape[-1] == classes:
            predicted = scores.argmax(axis=-1)
        elif classes == 2 and (scores.ndim == 1 or scores.shape[-1] == 1):
            predicted = (scores > 0.5).astype(np.int64)
        else:
            raise ShapeError(
                f"{self.name}: predictions {scores.shape} are not of {classes} classes; end the "
                f"model with {classes} outputs"
            )
        if labels.shape == scores.shape and scores.shape[-1] == classes:
            labels = labels.argmax(axis=-1)
        return pair_counts(self.name, labels, predicted, classes, sample_weight)

    def figure(self, sums: Sums) -> Any:
        return np.asarray(sums).reshape(self.num_classes, self.num_classes)


def _classes(kind: str, value: Any) -> int:
    if whole(f"{kind}'s num_classes", value, low=2) > _MOST:
        raise SettingError(f"{kind}: num_classes={show(value)}: use 2 to {_MOST}")
    return int(value)


def pair_counts(
    name: str,
    true: np.ndarray,
    predicted: np.ndarray,
    classes: int,
    sample_weight: Any,
    ignored: int | None = None,
) -> np.ndarray:
    """How often class i was predicted as j: (classes²,), for class numbers (N, …)."""
    if true.size != predicted.size:
        raise losses.mismatch(name, true, predicted, "give one class number for each prediction")
    weights = weights_of(name, sample_weight, len(predicted))
    spread = np.repeat(weights, predicted.size // max(len(predicted), 1))
    true, predicted = whole_labels(true.reshape(-1)), whole_labels(predicted.reshape(-1))
    if ignored is not None:
        valid = true != ignored
        true, predicted, spread = true[valid], predicted[valid], spread[valid]
    check_class_numbers(name, true, classes)
    check_class_numbers(name, predicted, classes)
    pairs = true.astype(np.int64) * classes + predicted.astype(np.int64)
    return np.bincount(pairs, spread, minlength=classes * classes)


class IoU(Metric):
    """Intersection over union of `target_class_ids`, their mean: TP / (TP + FP + FN).

    Labels and predictions are class numbers (N, …), or one value a class on the last axis where
    `sparse_y_true` or `sparse_y_pred` is False. Classes that never occur do not count. Labels of
    `ignore_class` are left out.
    """

    higher_is_better = True

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Sequence[int],
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ) -> None:
        kind = type(self).__name__
        super().__init__(dtype, _NAMES.get(kind) if name is None else name)
        self.num_classes = _classes(kind, num_classes)
        self.target_class_ids = list(wholes(f"{kind}'s target_class_ids", target_class_ids))
        known = set(range(self.num_classes))
        if not self.target_class_ids or not known.issuperset(self.target_class_ids):
            raise SettingError(
                f"{kind}: target_class_ids={show(target_class_ids)} of {num_classes} classes; use "
                f"0 to {num_classes - 1}"
            )
        self.ignore_class = (
            None if ignore_class is None else whole("ignore_class", ignore_class, low=None)
        )
        self.sparse_y_true = flag("sparse_y_true", sparse_y_true)
        self.sparse_y_pred = flag("sparse_y_pred", sparse_y_pred)
        self.axis = last_axis(kind, axis)

    def update(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Sums:
        labels, predicted = host(y_true), host(y_pred)
        if not self.sparse_y_true:
            labels = labels.argmax(axis=-1)
        if not self.sparse_y_pred:
            predicted = predicted.argmax(axis=-1)
        elif predicted.size == labels.size * self.num_classes:
            raise losses.mismatch(
                self.name, labels, predicted, "use sparse_y_pred=False for a score of each class"
            )
        return pair_counts(
            self.name, labels, predicted, self.num_classes, sample_weight, self.ignore_class
        )

    def figure(self, sums: Sums) -> float:
        counts = np.asarray(sums).reshape(self.num_classes, self.num_classes)
        found = np.diag(counts)
        union = (counts.sum(0) + counts.sum(1) - found)[self.target_class_ids]
        shares = ratio(found[self.target_class_ids], union)
        return float(shares.sum() / max(np.count_nonzero(union), 1))


class MeanIoU(IoU):
    """Intersection over union, the mean over the classes that occur. See IoU."""

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ) -> None:
        every = tuple(range(_classes("MeanIoU", num_classes)))
        super().__init__(
            num_classes, every, name, dtype, ignore_class, sparse_y_true, sparse_y_pred, axis
        )


class OneHotIoU(IoU):
    """IoU of one-hot labels and scores (N, …, K)."""

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Sequence[int],
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ) -> None:
        super().__init__(
            num_classes, target_class_ids, name, dtype, ignore_class, False, sparse_y_pred, axis
        )


class OneHotMeanIoU(MeanIoU):
    """MeanIoU of one-hot labels and scores (N, …, K)."""

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ) -> None:
        super().__init__(num_classes, name, dtype, ignore_class, False, sparse_y_pred, axis)


class BinaryIoU(IoU):
    """IoU of two classes; predictions from `threshold` on are class 1."""

    def __init__(
        self,
        target_class_ids: Sequence[int] = (0, 1),
        threshold: float = 0.5,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(2, target_class_ids, name, dtype)
        self.threshold = number("BinaryIoU's threshold", threshold)

    def update(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Sums:
        predicted = (host(y_pred) >= self.threshold).astype(np.int64)
        return pair_counts(self.name, host(y_true), predicted, 2, sample_weight)


# As Keras derives them from the classes' names.
_NAMES = {
    "IoU": "io_u", "MeanIoU": "mean_io_u", "OneHotIoU": "one_hot_io_u",
    "OneHotMeanIoU": "one_hot_mean_io_u", "BinaryIoU": "binary_io_u",
}  # fmt: skip
