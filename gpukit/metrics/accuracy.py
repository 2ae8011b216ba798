"""Accuracies: shares of samples, or of values, that are predicted rightly."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpukit import losses
from gpukit.core.config import flag, number, show, whole
from gpukit.device import to_host
from gpukit.errors import SettingError, ShapeError
from gpukit.metrics.base import Metric, class_numbers, mean_sums, outputs_and_labels, raw

_WAY_OUT = "pass class numbers (N,) or one-hot labels (N, K)"


class Accuracy(Metric):
    """Share of samples (of pixels, for predictions of each) classified rightly.

    Predictions (N, …, K): the largest is the class, labels are class numbers (N, …) or one-hot
    (N, …, K). Predictions (N, …, 1) or (N,): above `threshold` is class 1, labels are 0 or 1.
    """

    higher_is_better = True

    def __init__(self, name: str = "accuracy", dtype: Any = None, threshold: float = 0.5) -> None:
        super().__init__(name=name, dtype=dtype)
        self.threshold = number("threshold", threshold)

    def update(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tuple[float, float]:
        labels, scores = raw(y_true), raw(y_pred)
        if scores.ndim == 0:
            raise losses.mismatch(self.name, labels, scores, _WAY_OUT)
        if scores.ndim == 1 or scores.shape[-1] == 1:
            if labels.size != scores.size:
                raise losses.mismatch(self.name, labels, scores, _WAY_OUT)
            right = losses.place(labels, scores).reshape(scores.shape) == 1
            return _share(self.name, (scores > self.threshold) == right, sample_weight)
        return _classified(self.name, labels, scores, sample_weight)


class BinaryAccuracy(Metric):
    """Share of values that are 1 above `threshold` and else 0, as the labels of their shape."""

    higher_is_better = True

    def __init__(
        self, name: str = "binary_accuracy", dtype: Any = None, threshold: float = 0.5
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.threshold = number("BinaryAccuracy's threshold", threshold, low=0, high=1)

    def update(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tuple[float, float]:
        labels, scores = outputs_and_labels(self.name, y_true, y_pred)
        return _share(self.name, labels == (scores > self.threshold), sample_weight)


class CategoricalAccuracy(Metric):
    """Share of samples whose largest prediction is of their class, for (N, …, K)."""

    higher_is_better = True

    def __init__(self, name: str = "categorical_accuracy", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)

    def update(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tuple[float, float]:
        return _classified(self.name, raw(y_true), raw(y_pred), sample_weight)


class SparseCategoricalAccuracy(CategoricalAccuracy):
    """The same; its labels are class numbers (N, …)."""

    def __init__(self, name: str = "sparse_categorical_accuracy", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)


class TopKAccuracy(Metric):
    """Share of samples whose class is among the `k` largest predictions (N, K).

    Ties with the k-th count as among them. Labels are class numbers (N,) or one-hot (N, K).
    """

    higher_is_better = True

    def __init__(self, k: int = 5, name: str | None = None, dtype: Any = None) -> None:
        self.k = whole("k", k)
        super().__init__(dtype, f"top_{self.k}_accuracy" if name is None else name)

    def update(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tuple[float, float]:
        labels, scores = raw(y_true), raw(y_pred)
        if scores.ndim != 2:
            raise ShapeError(f"{self.name}: predictions {tuple(scores.shape)} must be (N, classes)")
        numbers = class_numbers(self.name, labels, scores)
        own = np.take_along_axis(scores, numbers.reshape(-1, 1), axis=-1)
        better = np.sum(scores > own, axis=-1)
        return _share(self.name, (better < self.k) & np.isfinite(own[:, 0]), sample_weight)


class TopKCategoricalAccuracy(TopKAccuracy):
    """TopKAccuracy under Keras's name."""

    def __init__(
        self, k: int = 5, name: str = "top_k_categorical_accuracy", dtype: Any = None
    ) -> None:
        super().__init__(k, name, dtype)


class SparseTopKCategoricalAccuracy(TopKAccuracy):
    """TopKAccuracy under Keras's name; its labels are class numbers (N,)."""

    def __init__(
        self,
        k: int = 5,
        name: str = "sparse_top_k_categorical_accuracy",
        dtype: Any = None,
        from_sorted_ids: bool = False,
    ) -> None:
        super().__init__(k, name, dtype)
        if flag("from_sorted_ids", from_sorted_ids):
            raise SettingError(
                f"SparseTopKCategoricalAccuracy: from_sorted_ids={show(from_sorted_ids)}: "
                "predictions are scores of every class; leave it out"
            )
        self.from_sorted_ids = False


def _classified(name: str, labels: Any, scores: Any, sample_weight: Any) -> tuple[float, float]:
    numbers = class_numbers(name, labels, scores)
    return _share(name, np.argmax(scores, axis=-1) == numbers, sample_weight)


def _share(name: str, right: Any, sample_weight: Any) -> tuple[float, float]:
    """(Σ w·right, Σ w); of several values a sample, their number counts."""
    if sample_weight is not None:
        return mean_sums(name, right, sample_weight)
    return float(to_host(np.sum(right))), float(right.size)
