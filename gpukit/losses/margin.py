"""Hinge losses: of the margin between classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpukit import ops
from gpukit.losses.base import Loss, beside, check_range, mean_of_sample, raw, same_shape

_MEAN = "sum_over_batch_size"


class Hinge(Loss):
    """max(0, 1 - t·y), the mean over the outputs of a sample, for t of -1 or 1 (or 0 or 1)."""

    def __init__(
        self, reduction: str | None = _MEAN, name: str = "hinge", dtype: Any = None
    ) -> None:
        super().__init__(reduction, name, dtype)

    def per_sample(self, y_true: Any, y_pred: Any) -> Any:
        return mean_of_sample(_short_of_margin(self.name, y_true, y_pred))


class SquaredHinge(Loss):
    """max(0, 1 - t·y)², the mean over the outputs of a sample. See Hinge."""

    def __init__(
        self, reduction: str | None = _MEAN, name: str = "squared_hinge", dtype: Any = None
    ) -> None:
        super().__init__(reduction, name, dtype)

    def per_sample(self, y_true: Any, y_pred: Any) -> Any:
        return mean_of_sample(ops.square(_short_of_margin(self.name, y_true, y_pred)))


class CategoricalHinge(Loss):
    """max(0, 1 + max((1 - t)·y) - Σ t·y) over the last axis, for one-hot labels t."""

    def __init__(
        self, reduction: str | None = _MEAN, name: str = "categorical_hinge", dtype: Any = None
    ) -> None:
        super().__init__(reduction, name, dtype)

    def per_sample(self, y_true: Any, y_pred: Any) -> Any:
        labels = same_shape(self.name, raw(y_true), y_pred)
        check_range(self.name, labels, 0, 1)
        t = beside(labels, y_pred)
        own = ops.sum(ops.multiply(y_pred, t), axis=-1)
        other = ops.max(ops.multiply(y_pred, 1 - t), axis=-1)
        return mean_of_sample(ops.maximum(ops.add(ops.subtract(other, own), 1.0), 0.0))


def _short_of_margin(name: str, y_true: Any, y_pred: Any) -> Any:
    labels = same_shape(name, raw(y_true), y_pred)
    check_range(name, labels, -1, 1)
    t = beside(labels, y_pred)
    if t.size and float(np.min(t)) >= 0:
        t = 2 * t - 1
    return ops.maximum(ops.subtract(1.0, ops.multiply(y_pred, t)), 0.0)
