"""Metrics: figures that training reports beside the loss, as sums over batches.

A metric gives (sum, count) for a batch, so that means over batches of unequal size come out right.
Nothing is recorded on the tape. Predictions stay on their device; only the sum is fetched.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpukit import losses
from gpukit.autograd import no_grad
from gpukit.autograd.results import operand, values_of
from gpukit.core.config import Configurable, Family, number, show, snake_case, text, whole
from gpukit.device import to_host
from gpukit.errors import DataError, SettingError, ShapeError
from gpukit.utils import whole_labels

RESERVED = ("epoch", "loss", "lr", "seconds")  # keys of logs that are no metric's
_WAY_OUT = "pass class numbers (N,) or one-hot labels (N, K)"


class Metric(Configurable):
    """Base of all metrics; `name` is the key in the logs.

    `higher_is_better` says what callbacks with mode="auto" look for; None: they ask for a mode.
    """

    name = ""
    higher_is_better: bool | None = None

    def update(self, y_true: Any, y_pred: Any) -> tuple[float, int]:
        """(sum over the batch, number of samples) for labels and predictions (N, …)."""
        raise NotImplementedError

    def __call__(self, y_true: Any, y_pred: Any) -> float:
        """The mean over one batch; 0 for an empty one."""
        total, count = self.update(y_true, y_pred)
        return total / max(count, 1)


class Accuracy(Metric):
    """Share of samples classified rightly.

    Predictions (N, K): the largest is the class, labels are class numbers (N,) or one-hot (N, K).
    Predictions (N, 1) or (N,): above `threshold` is class 1, labels are 0 or 1.
    """

    higher_is_better = True

    def __init__(self, threshold: float = 0.5, name: str = "accuracy") -> None:
        self.threshold = number("threshold", threshold)
        self.name = text("Accuracy's name", name)

    def update(self, y_true: Any, y_pred: Any) -> tuple[float, int]:
        labels, scores = _raw(y_true), _raw(y_pred)
        if scores.ndim == 1 or (scores.ndim == 2 and scores.shape[1] == 1):
            if labels.size != scores.size:
                raise losses.mismatch(self.name, labels, scores, _WAY_OUT)
            right = losses.place(labels, scores).reshape(-1) == 1
            return _count((scores.reshape(-1) > self.threshold) == right), int(scores.shape[0])
        numbers = _class_numbers(self.name, labels, scores)
        return _count(np.argmax(scores, axis=-1) == numbers), int(scores.shape[0])


class TopKAccuracy(Metric):
    """Share of samples whose class is among the `k` largest predictions (N, K).

    Ties with the k-th count as among them. Labels are class numbers (N,) or one-hot (N, K).
    """

    higher_is_better = True

    def __init__(self, k: int = 5, name: str | None = None) -> None:
        self.k = whole("k", k)
        self.name = f"top_{self.k}_accuracy" if name is None else text("TopKAccuracy's name", name)

    def update(self, y_true: Any, y_pred: Any) -> tuple[float, int]:
        labels, scores = _raw(y_true), _raw(y_pred)
        if scores.ndim != 2:
            raise ShapeError(f"{self.name}: predictions {tuple(scores.shape)} must be (N, classes)")
        numbers = _class_numbers(self.name, labels, scores)
        own = np.take_along_axis(scores, numbers.reshape(-1, 1), axis=-1)
        better = np.sum(scores > own, axis=-1)
        return _count((better < self.k) & np.isfinite(own[:, 0])), int(scores.shape[0])


class LossMetric(Metric):
    """The mean of a loss, reported beside the one that is minimised."""

    higher_is_better = False

    def __init__(self, loss: Any, name: str | None = None) -> None:
        self.loss = losses.get(loss)
        function = getattr(getattr(self.loss, "function", None), "__name__", "")
        self.name = (
            function or snake_case(type(self.loss).__name__)
            if name is None
            else text("LossMetric's name", name)
        )

    def update(self, y_true: Any, y_pred: Any) -> tuple[float, int]:
        with no_grad():
            values = _raw(self.loss.per_sample(y_true, y_pred))
        return float(to_host(np.sum(values, dtype=np.float64))), int(values.shape[0])


def _raw(values: Any) -> Any:
    return operand("metric", values_of("metric", values))


def _class_numbers(name: str, labels: Any, scores: Any) -> Any:
    """Class numbers (N,) on the device of the predictions (N, K)."""
    if tuple(labels.shape) == tuple(scores.shape):
        return losses.place(np.argmax(labels, axis=-1), scores)
    if tuple(labels.shape) not in (tuple(scores.shape[:-1]), (*scores.shape[:-1], 1)):
        raise losses.mismatch(name, labels, scores, _WAY_OUT)
    numbers = labels.reshape(scores.shape[:-1])
    if numbers.dtype.kind not in "iu":
        numbers = whole_labels(to_host(numbers))
    classes = scores.shape[-1]
    if numbers.size and (int(numbers.min()) < 0 or int(numbers.max()) >= classes):
        wrong = int(numbers.min()) if int(numbers.min()) < 0 else int(numbers.max())
        raise DataError(
            f"{name}: label {wrong} is out of range: {classes} classes are numbered 0 to "
            f"{classes - 1}"
        )
    # Unsigned 64-bit numbers cannot index everywhere.
    return losses.place(numbers.astype(np.int64, copy=False), scores)


def _count(right: Any) -> float:
    return float(to_host(np.sum(right)))


def update_of(metric: Metric, y_true: Any, y_pred: Any) -> tuple[float, float]:
    """`metric.update`, its result checked."""
    figures = metric.update(y_true, y_pred)
    try:
        total, count = figures
        return float(total), float(count)
    except (TypeError, ValueError):
        raise SettingError(
            f"{type(metric).__name__}.update returned {show(figures)}; return (sum over the batch, "
            "number of samples)"
        ) from None


_family = Family[Metric]("metric", Metric)
_family.add(
    Accuracy,
    TopKAccuracy,
    LossMetric,
    acc=Accuracy,
    categorical_accuracy=Accuracy,
    sparse_categorical_accuracy=Accuracy,
    binary_accuracy=Accuracy,
    top_k_categorical_accuracy=TopKAccuracy,
    sparse_top_k_categorical_accuracy=TopKAccuracy,
)
_LOSSES = {"mse", *(function.__name__ for function in losses.FUNCTIONS)}


def get(spec: Any) -> Metric:
    """The metric meant by an object, a name ("accuracy", "top_5_accuracy", "mse") or a loss.

    One that is given by a name has that name: "acc" is `acc` in the logs.
    """
    if isinstance(spec, str):
        metric = _by_name(spec)
        metric.name = spec
        return metric
    if isinstance(spec, losses.Loss) or (callable(spec) and spec in losses.FUNCTIONS):
        return LossMetric(spec)
    return _family.get(spec)


def _by_name(spec: str) -> Metric:
    if top := re.fullmatch(r"top_(\d+)(_accuracy)?", spec.lower()):
        return TopKAccuracy(int(top[1]))
    if spec.lower() in _LOSSES:
        return LossMetric(spec.lower())
    if spec.lower() not in _family.aliases and spec not in _family.classes:
        raise SettingError(
            f"unknown metric {show(spec)}; use accuracy, top_5_accuracy (any number) or a loss: "
            f"{', '.join(sorted(_LOSSES))}"
        )
    return _family.get(spec)


def keyed(metrics: Sequence[Metric]) -> dict[str, Metric]:
    """`metrics` by their keys in logs: their names, of equal ones `name`, `name_1`, `name_2` …

    Raises SettingError for a name that logs have for something else.
    """
    found: dict[str, Metric] = {}
    for metric in metrics:
        name = key = metric.name or snake_case(type(metric).__name__)
        if name in RESERVED or name.startswith("val_"):
            raise SettingError(
                f"a metric is named {name!r}, which logs have for another figure; give it another "
                "name="
            )
        number = 0
        while key in found:
            number += 1
            key = f"{name}_{number}"
        found[key] = metric
    return found


from_config = _family.from_config
