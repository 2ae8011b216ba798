"""Metrics of decisions at thresholds: precision, recall, F-scores, areas under curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpukit.core.config import flag, number, show, whole
from gpukit.errors import DataError, SettingError, ShapeError
from gpukit.metrics.base import Metric, Sums, outputs_and_labels, ratio, weights_of

_EPSILON = 1e-7
_MOST = 1 << 20  # thresholds
_AVERAGES = ("micro", "macro", "weighted")


def counts_at(
    thresholds: Sequence[float], positive: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """True positives, false positives, false negatives, true negatives at T thresholds: (4, T).

    All flat and of one length; a score is predicted positive above the threshold, in its dtype.
    """
    order = np.argsort(thresholds, kind="stable")
    edges = np.asarray(thresholds, np.float64)[order].astype(scores.dtype)
    below = np.searchsorted(edges, scores, side="left")  # how many thresholds a score is above
    below[np.isnan(scores)] = 0
    counts = np.empty((4, len(edges)))
    for row, chosen in ((0, positive), (1, ~positive)):
        found = np.bincount(below[chosen], weights[chosen], minlength=len(edges) + 1)
        above = np.cumsum(found[::-1])[::-1][1:]
        counts[row, order] = above
        counts[row + 2, order] = found.sum() - above
    return counts


class _AtThresholds(Metric):
    """Counts at thresholds (0.5 by default), of all values or of one class."""

    def __init__(
        self,
        thresholds: Any = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        kind = type(self).__name__
        self.thresholds = thresholds
        self.top_k = None if top_k is None else whole(f"{kind}'s top_k", top_k)
        self.class_id = None if class_id is None else whole(f"{kind}'s class_id", class_id, low=0)
        if thresholds is None:
            self._thresholds = [0.5 if top_k is None else -np.inf]
        else:
            several = thresholds if isinstance(thresholds, (list, tuple)) else [thresholds]
            self._thresholds = _numbers(f"{kind}'s thresholds", several, low=0, high=1)
            if not self._thresholds:
                raise SettingError(f"{kind}: thresholds=[]: use numbers from 0 to 1")

    def update(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Sums:
        labels, scores = outputs_and_labels(self.name, y_true, y_pred)
        weights = weights_of(self.name, sample_weight, len(scores))
        if self.top_k is not None:
            scores = _top(self.top_k, scores)
        if self.class_id is not None:
            if self.class_id >= scores.shape[-1]:
                raise ShapeError(
                    f"{self.name}: class_id={self.class_id} of predictions {scores.shape}; use 0 "
                    f"to {scores.shape[-1] - 1}"
                )
            labels, scores = labels[..., self.class_id], scores[..., self.class_id]
        spread = np.repeat(weights, scores.size // max(len(scores), 1))
        positive = labels.reshape(-1) != 0
        return counts_at(self._thresholds, positive, scores.reshape(-1), spread).reshape(-1)

    def figure(self, sums: Sums) -> Any:
        found = self.of_counts(*np.asarray(sums).reshape(4, -1))
        return float(found[0]) if len(found) == 1 else found

    def of_counts(self, tp: Any, fp: Any, fn: Any, tn: Any) -> np.ndarray:
        """The figures (T,) of counts (T,)."""
        raise NotImplementedError


def _top(k: int, scores: np.ndarray) -> np.ndarray:
    """Scores with those outside of the k largest of each sample at −∞; of ties the first stay."""
    kept = np.argsort(-scores, axis=-1, kind="stable")[..., :k]
    found = np.full(scores.shape, -np.inf, scores.dtype)
    np.put_along_axis(found, kept, np.take_along_axis(scores, kept, -1), -1)
    return found


class Precision(_AtThresholds):
    """Share of true ones among what is predicted positive: TP / (TP + FP), 0 of none.

    Predictions (N, …) above a threshold are positive; labels are 0 or 1, of the same shape, or
    class numbers. `top_k`: of each sample only the k largest. `class_id`: of that class alone.
    Several `thresholds` give an array.
    """

    higher_is_better = True

    def of_counts(self, tp: Any, fp: Any, fn: Any, tn: Any) -> np.ndarray:
        return ratio(tp, tp + fp)


class Recall(_AtThresholds):
    """Share of the positive that is predicted so: TP / (TP + FN), 0 of none. See Precision."""

    higher_is_better = True

    def of_counts(self, tp: Any, fp: Any, fn: Any, tn: Any) -> np.ndarray:
        return ratio(tp, tp + fn)


class _Count(_AtThresholds):
    place: int

    def __init__(self, thresholds: Any = None, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(thresholds, name=name, dtype=dtype)

    def of_counts(self, *counts: Any) -> np.ndarray:
        return counts[self.place]


class TruePositives(_Count):
    """Number of positive values that are predicted so."""

    place, higher_is_better = 0, True


class FalsePositives(_Count):
    """Number of negative values that are predicted positive."""

    place, higher_is_better = 1, False


class FalseNegatives(_Count):
    """Number of positive values that are predicted negative."""

    place, higher_is_better = 2, False


class TrueNegatives(_Count):
    """Number of negative values that are predicted so."""

    place, higher_is_better = 3, True


class FBetaScore(Metric):
    """(1 + β²)·P·R / (β²·P + R) of each class, for predictions (N, K), 0 where there is none.

    Without `threshold` the largest prediction is the class. `average` None gives an array (K,);
    "micro" counts all classes as one, "macro" is the mean, "weighted" that by number of samples.
    """

    higher_is_better = True

    def __init__(
        self,
        average: str | None = None,
        beta: float = 1.0,
        threshold: float | None = None,
        name: str = "fbeta_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        kind = type(self).__name__
        self.average = None if average is None else _choice(kind, "average", average, _AVERAGES)
        self.beta = number(f"{kind}'s beta", beta, above=0)
        self.threshold = (
            None if threshold is None else number(f"{kind}'s threshold", threshold, above=0, high=1)
        )

    def update(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Sums:
        labels, scores = outputs_and_labels(self.name, y_true, y_pred)
        if scores.ndim == 1:
            labels, scores = labels[:, None], scores[:, None]
        if scores.ndim != 2:
            raise ShapeError(f"{self.name}: predictions {scores.shape} must be (N, classes)")
        if self.threshold is not None:
            chosen = scores > self.threshold
        elif scores.shape[1] == 1:
            raise SettingError(f"{self.name} of one output needs a threshold; use threshold=0.5")
        else:
            largest = scores.max(axis=1, keepdims=True, initial=-np.inf)
            chosen = (scores >= largest) & (np.abs(scores) > 1e-9)
        weights = weights_of(self.name, sample_weight, len(scores))
        true = labels.astype(np.float64)
        found = [weights @ (chosen * true), weights @ (chosen * (1 - true)),
                 weights @ (~chosen * true), weights @ true]  # fmt: skip
        return np.concatenate(found)

    def figure(self, sums: Sums) -> Any:
        tp, fp, fn, true = np.asarray(sums).reshape(4, -1)
        if self.average == "micro":
            tp, fp, fn = tp.sum(), fp.sum(), fn.sum()
        precision, recall = ratio(tp, tp + fp), ratio(tp, tp + fn)
        square = self.beta**2
        score = (1 + square) * ratio(precision * recall, square * precision + recall)
        if self.average == "weighted":
            return float((score * ratio(true, true.sum())).sum())
        return score if self.average is None else float(score.mean())


class F1Score(FBetaScore):
    """2·P·R / (P + R): FBetaScore with β = 1."""

    def __init__(
        self,
        average: str | None = None,
        threshold: float | None = None,
        name: str = "f1_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(average, 1.0, threshold, name, dtype)


class AUC(Metric):
    """Area under the ROC or precision-recall curve, from counts at thresholds.

    Predictions are probabilities, or logits with `from_logits`; labels 0 or 1 of the same shape, or
    class numbers. `num_thresholds` are spread evenly, or given by `thresholds`, from 0 to 1; one
    just below 0 and one just above 1 belong to them. `summation_method`: interpolation (of "PR" by
    Davis and Goadrich, 2006), minoring or majoring. With `multi_label` the mean over the last axis'
    areas, by `label_weights`.
    """

    higher_is_better = True

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str = "auc",
        dtype: Any = None,
        thresholds: Sequence[float] | None = None,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weights: Sequence[float] | None = None,
        from_logits: bool = False,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.curve = _choice("AUC", "curve", curve, ("ROC", "PR"))
        self.summation_method = _choice(
            "AUC", "summation_method", summation_method, ("interpolation", "minoring", "majoring")
        )
        if whole("AUC's num_thresholds", num_thresholds, low=2) > _MOST:
            raise SettingError(f"AUC: num_thresholds={show(num_thresholds)}: use 2 to {_MOST}")
        self.num_thresholds = int(num_thresholds)
        self.thresholds = (
            None if thresholds is None else _numbers("AUC's thresholds", thresholds, low=0, high=1)
        )
        if self.thresholds is None:
            steps = self.num_thresholds - 1
            inner = [(i + 1) / steps for i in range(steps - 1)]
        else:
            inner = sorted(self.thresholds)
            self.num_thresholds = len(inner) + 2
        self._thresholds = [-_EPSILON, *inner, 1 + _EPSILON]
        self.multi_label = flag("multi_label", multi_label)
        self.num_labels = None if num_labels is None else whole("AUC's num_labels", num_labels)
        self.label_weights = (
            None if label_weights is None else _numbers("AUC's label_weights", label_weights, low=0)
        )
        if not self.multi_label and not (num_labels is None and label_weights is None):
            raise SettingError("AUC: num_labels and label_weights apply with multi_label=True only")
        self.from_logits = flag("from_logits", from_logits)

    def update(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Sums:
        labels, scores = outputs_and_labels(self.name, y_true, y_pred)
        if self.from_logits:
            with np.errstate(over="ignore"):
                scores = 1 / (1 + np.exp(-scores))
        elif scores.size and not (scores.min() >= 0 and scores.max() <= 1):
            raise DataError(
                f"{self.name}: predictions must be from 0 to 1; use from_logits=True for logits"
            )
        spread = weights_of(self.name, sample_weight, len(scores))
        if not self.multi_label:
            spread = np.repeat(spread, scores.size // max(len(scores), 1))
            found = counts_at(self._thresholds, labels.reshape(-1) != 0, scores.reshape(-1), spread)
            return found.reshape(-1)
        wanted = self.num_labels or len(self.label_weights or ()) or scores.shape[-1]
        if scores.ndim != 2 or scores.shape[1] != wanted:
            raise ShapeError(f"{self.name}: predictions {scores.shape} must be (N, {wanted})")
        columns = [
            counts_at(self._thresholds, labels[:, i] != 0, scores[:, i], spread)
            for i in range(wanted)
        ]
        return np.stack(columns, axis=-1).reshape(-1)

    def figure(self, sums: Sums) -> float:
        counts = np.asarray(sums).reshape(4, len(self._thresholds), -1)
        areas = _area(self.curve, self.summation_method, *counts)
        return float(np.average(areas, weights=self.label_weights))


def _choice(kind: str, name: str, value: Any, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise SettingError(f"{kind}: {name}={show(value)}: use {' or '.join(choices)}")
    return value


def _numbers(name: str, values: Any, low: float = 0, high: float = math.inf) -> list[float]:
    if not isinstance(values, (list, tuple)):
        raise SettingError(f"{name}={show(values)}: use a list of numbers")
    return [number(name, value, low=low, high=high) for value in values]


def _area(curve: str, method: str, tp: Any, fp: Any, fn: Any, tn: Any) -> np.ndarray:
    """Areas (L,) of counts (T, L) at rising thresholds."""
    if curve == "PR" and method == "interpolation":
        return _interpolated(tp, fp, fn)
    recall = ratio(tp, tp + fn)
    x, y = (ratio(fp, fp + tn), recall) if curve == "ROC" else (recall, ratio(tp, tp + fp))
    first, second = y[:-1], y[1:]
    heights = {
        "interpolation": (first + second) / 2,
        "minoring": np.minimum(first, second),
        "majoring": np.maximum(first, second),
    }[method]
    return ((x[:-1] - x[1:]) * heights).sum(axis=0)


def _interpolated(tp: Any, fp: Any, fn: Any) -> np.ndarray:
    """Area under precision and recall, true positives taken as linear between thresholds."""
    p = tp + fp
    gained = tp[:-1] - tp[1:]
    slope = ratio(gained, np.maximum(p[:-1] - p[1:], 0))
    intercept = tp[1:] - slope * p[1:]
    both = (p[:-1] > 0) & (p[1:] > 0)
    quotient = np.where(both, ratio(p[:-1], p[1:]), 1.0)
    grown = slope * (gained + intercept * np.log(quotient))
    return ratio(grown, tp[1:] + fn[1:]).sum(axis=0)
