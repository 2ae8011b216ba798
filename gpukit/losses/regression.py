"""Losses of values: squared, absolute and relative errors, and angles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpukit import ops
from gpukit.core.config import number, whole
from gpukit.errors import SettingError
from gpukit.losses.base import EPSILON, Loss, beside, mean_of_sample, raw, same_shape

_MEAN = "sum_over_batch_size"


class _OfValues(Loss):
    """Base of losses that are the mean, over the outputs of a sample, of a term for each."""

    def per_sample(self, y_true: Any, y_pred: Any) -> Any:
        t = beside(same_shape(self.name, raw(y_true), y_pred), y_pred)
        return mean_of_sample(self.terms(t, y_pred))

    def terms(self, t: Any, y: Any) -> Any:
        """The loss of each value, for labels t on the device of the predictions y."""
        raise NotImplementedError


class MeanSquaredError(Loss):
    """(t - y)², the mean over the outputs of a sample."""

    def __init__(
        self, reduction: str | None = _MEAN, name: str = "mean_squared_error", dtype: Any = None
    ) -> None:
        super().__init__(reduction, name, dtype)

    def per_sample(self, y_true: Any, y_pred: Any) -> Any:
        labels = same_shape(self.name, raw(y_true), y_pred)
        return ops.squared_error(y_pred, beside(labels, y_pred))


class MeanAbsoluteError(_OfValues):
    """|t - y|, the mean over the outputs of a sample."""

    def __init__(
        self, reduction: str | None = _MEAN, name: str = "mean_absolute_error", dtype: Any = None
    ) -> None:
        super().__init__(reduction, name, dtype)

    def terms(self, t: Any, y: Any) -> Any:
        return ops.absolute(ops.subtract(y, t))


class MeanAbsolutePercentageError(_OfValues):
    """100·|t - y| / |t|, the mean over the outputs of a sample; |t| is at least 1e-7."""

    def __init__(
        self,
        reduction: str | None = _MEAN,
        name: str = "mean_absolute_percentage_error",
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name, dtype)

    def terms(self, t: Any, y: Any) -> Any:
        scale = 100.0 / np.maximum(np.abs(t), EPSILON)
        return ops.multiply(ops.absolute(ops.subtract(y, t)), scale.astype(y.dtype, copy=False))


class MeanSquaredLogarithmicError(_OfValues):
    """(ln(1 + t) - ln(1 + y))², the mean over the outputs of a sample; both at least 1e-7."""

    def __init__(
        self,
        reduction: str | None = _MEAN,
        name: str = "mean_squared_logarithmic_error",
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name, dtype)

    def terms(self, t: Any, y: Any) -> Any:
        logs = ops.log(ops.add(ops.maximum(y, EPSILON), 1.0))
        return ops.square(ops.subtract(logs, np.log(np.maximum(t, EPSILON) + 1)))


class Huber(_OfValues):
    """e²/2 where |e| ≤ delta, else delta·|e| - delta²/2, e = t - y. Huber, 1964."""

    def __init__(
        self,
        delta: float = 1.0,
        reduction: str | None = _MEAN,
        name: str = "huber_loss",
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name, dtype)
        self.delta = number("Huber's delta", delta, above=0)

    def terms(self, t: Any, y: Any) -> Any:
        error = ops.absolute(ops.subtract(y, t))
        near = ops.minimum(error, self.delta)
        far = ops.multiply(ops.subtract(error, near), self.delta)
        return ops.add(ops.multiply(ops.square(near), 0.5), far)


class LogCosh(_OfValues):
    """ln cosh(y - t), the mean over the outputs of a sample."""

    def __init__(
        self, reduction: str | None = _MEAN, name: str = "log_cosh", dtype: Any = None
    ) -> None:
        super().__init__(reduction, name, dtype)

    def terms(self, t: Any, y: Any) -> Any:
        error = ops.subtract(y, t)
        grown = ops.add(error, ops.softplus(ops.multiply(error, -2.0)))  # without overflow
        return ops.subtract(grown, math.log(2))


class CosineSimilarity(Loss):
    """-Σ t·y / (|t|·|y|) along `axis`: −1 for the same direction, 1 for opposite ones."""

    def __init__(
        self,
        axis: int = -1,
        reduction: str | None = _MEAN,
        name: str = "cosine_similarity",
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name, dtype)
        self.axis = whole("CosineSimilarity's axis", axis, low=None)
        if self.axis == 0:
            raise SettingError("CosineSimilarity: axis=0 is that of the samples; use another")

    def per_sample(self, y_true: Any, y_pred: Any) -> Any:
        t = beside(same_shape(self.name, raw(y_true), y_pred), y_pred)
        t = t / np.sqrt(np.maximum(np.sum(t * t, axis=self.axis, keepdims=True), _SMALLEST))
        squares = ops.sum(ops.square(y_pred), axis=self.axis, keepdims=True)
        y = ops.divide(y_pred, ops.sqrt(ops.maximum(squares, _SMALLEST)))
        return mean_of_sample(ops.negative(ops.sum(ops.multiply(y, t), axis=self.axis)))


_SMALLEST = 1e-24  # squared length that vectors are divided by, at least
