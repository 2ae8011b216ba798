"""Metrics that are means: of losses, of users' functions, of values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpukit import losses
from gpukit.autograd import no_grad
from gpukit.core.config import show, snake_case
from gpukit.device import to_host
from gpukit.errors import SettingError, ShapeError
from gpukit.metrics.base import Metric, Sums, add_sums, mean_sums, numbers, raw, weights_of


class LossMetric(Metric):
    """The mean of a loss, reported beside the one that is minimised."""

    higher_is_better = False

    def __init__(self, loss: Any, name: str | None = None, dtype: Any = None) -> None:
        self.loss = losses.get(loss)
        function = getattr(getattr(self.loss, "function", None), "__name__", "")
        own = function or snake_case(type(self.loss).__name__)
        super().__init__(dtype, own if name is None else name)

    def update(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tuple[float, float]:
        with no_grad():
            values = raw(self.loss.per_sample(y_true, y_pred))
        total, weight = mean_sums(self.name, values, sample_weight)
        shares = self.loss.shares(y_true)
        if shares is not None:
            weight = float(weights_of(self.name, sample_weight, len(shares)) @ shares)
        return total, weight


class MeanMetricWrapper(Metric):
    """The mean of a function of (y_true, y_pred), which gives a value for each sample or all."""

    def __init__(self, fn: Callable[..., Any], name: str | None = None, dtype: Any = None) -> None:
        super().__init__(dtype, getattr(fn, "__name__", "function") if name is None else name)
        if not callable(fn):
            raise SettingError(f"MeanMetricWrapper: fn={show(fn)}: use a function")
        self.fn = fn

    def update(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tuple[float, float]:
        scores = raw(y_pred)
        count = int(scores.shape[0])
        with no_grad():
            found = numbers(self.fn(losses.place(raw(y_true), scores), scores))
        if found.ndim == 0:
            found = np.broadcast_to(to_host(found), (count,))
        if found.shape[0] != count:
            raise ShapeError(
                f"the metric {self.name} gave shape {tuple(found.shape)} for a batch of {count}; "
                "return one value for each sample, or their mean"
            )
        return mean_sums(self.name, found, sample_weight)


class _OfValues(Metric):
    """Base of metrics that are fed with values: `update_state(values, sample_weight)`."""

    def update_state(self, values: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        array = to_host(numbers(values)).astype(np.float64)
        given = np.ones_like(array) if sample_weight is None else sample_weight
        weights = to_host(numbers(given))
        weights = weights.astype(np.float64).reshape(
            weights.shape + (1,) * (array.ndim - weights.ndim)
        )
        weights = np.broadcast_to(weights, array.shape)
        sums: Sums = (float((array * weights).sum()), float(weights.sum()))
        self._sums = add_sums(self._sums, sums)


class Mean(_OfValues):
    """The mean of values, such as a loss in a training loop of one's own."""

    def __init__(self, name: str = "mean", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)


class Sum(_OfValues):
    """The sum of values."""

    def __init__(self, name: str = "sum", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)

    def figure(self, sums: Sums) -> float:
        return float(sums[0])


class RootMeanSquaredError(LossMetric):
    """√ of the mean of (t − y)² over samples and outputs."""

    def __init__(self, name: str = "root_mean_squared_error", dtype: Any = None) -> None:
        super().__init__("mean_squared_error", name, dtype)

    def figure(self, sums: Sums) -> float:
        return float(np.sqrt(super().figure(sums)))
