"""The base of losses: one number a sample, and what training minimises of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpukit import ops
from gpukit.autograd import Tensor
from gpukit.autograd.results import check_made, operand, values_of
from gpukit.core.config import Configurable, show, snake_case, text, whole
from gpukit.device import device_of, to_host
from gpukit.errors import DataError, SettingError, ShapeError

EPSILON = 1e-7  # probabilities are kept this far from 0 and 1, as in Keras
_MEANS = ("sum_over_batch_size", "mean")
REDUCTIONS = (*_MEANS, "mean_with_sample_weight", "sum", "none", None)


class Loss(Configurable):
    """Base of all losses. A subclass gives `per_sample` or, as in Keras, `call`.

    `reduction`: "sum_over_batch_size" or "mean" over the samples, "sum", "mean_with_sample_weight"
    (Σwl / Σw), or None: a loss for each sample, which `fit` cannot minimise.

    `fused_activation` names the activation that `from_logits_variant` computes together with the
    loss: a model that ends in it gives the outputs before it to that variant instead.
    """

    fused_activation: str | None = None
    reduction: str | None = "sum_over_batch_size"
    name = ""
    dtype: None = None

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        kind = type(self).__name__
        if not isinstance(reduction, (str, type(None))) or reduction not in REDUCTIONS:
            known = ", ".join(map(str, REDUCTIONS))
            raise SettingError(f"{kind}: reduction={show(reduction)}: use one of {known}")
        if dtype is not None:
            raise SettingError(
                f"{kind}: dtype={show(dtype)}: a loss has the dtype of the predictions; leave it "
                "out"
            )
        self.reduction = reduction
        self.name = snake_case(kind) if name is None else text(f"{kind}'s name", name)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """A loss for each sample, or for each value, of labels on the predictions' device."""
        raise NotImplementedError

    def per_sample(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each sample, (N,). Raises ShapeError, and DataError for labels."""
        if type(self).call is Loss.call:
            raise NotImplementedError(f"{type(self).__name__} has neither call nor per_sample")
        return of_function(f"{type(self).__name__}.call", self.call, y_true, y_pred)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The losses reduced, of shape (); 0 for an empty batch. `sample_weight` is (N,)."""
        losses = weighted(self.per_sample(y_true, y_pred), sample_weight)
        if self.reduction in ("none", None):
            return losses
        divisor = self.divisor(y_true, sample_weight)
        return reduced(losses, 0.0 if losses.shape[0] == 0 else divisor)

    def divisor(self, y_true: Any, sample_weight: Any = None) -> float | None:
        """What the sum of the batch's losses is divided by; None: the number of samples."""
        if self.reduction in _MEANS:
            shares = self.shares(y_true)
            return None if shares is None else float(shares.sum())
        if self.reduction == "sum":
            return 1.0
        if self.reduction == "mean_with_sample_weight":
            if sample_weight is None:
                return None
            return float(to_host(np.sum(raw(sample_weight), dtype=np.float64)))
        raise SettingError(
            f"{self.name or type(self).__name__} with reduction={show(self.reduction)} gives a "
            "loss for each sample, which fit cannot minimise; use sum_over_batch_size or sum"
        )

    def shares(self, y_true: Any) -> np.ndarray | None:
        """The share of each sample's positions that count (N,); None: all do."""
        return None

    def counts(self, divisor: float | None, count: int) -> float:
        """The weight of a batch of `count` samples in the loss of an epoch."""
        return float(count) if divisor is None or self.reduction == "sum" else divisor

    def from_logits_variant(self) -> Loss | None:
        """The same loss for outputs before `fused_activation`; None where there is none."""
        return None


class Function(Loss):
    """A user's function of (y_true, y_pred): a loss for each sample, or for each value."""

    def __init__(self, function: Callable[[Any, Any], Any]) -> None:
        super().__init__(name=getattr(function, "__name__", "function"))
        self.function = function

    def per_sample(self, y_true: Any, y_pred: Any) -> Any:
        return of_function(f"the loss {self.name}", self.function, y_true, y_pred)


def of_function(name: str, function: Callable[..., Any], y_true: Any, y_pred: Any) -> Any:
    """What a user's function gives for each sample, checked."""
    losses = function(place(raw(y_true), y_pred), y_pred)
    check_made(name, losses, y_pred, None)
    if not losses.shape or losses.shape[0] != y_pred.shape[0]:
        raise ShapeError(
            f"{name} gave shape {tuple(losses.shape)} for a batch of {y_pred.shape[0]}; "
            "return one loss for each sample"
        )
    return mean_of_sample(losses)


def reduced(losses: Any, divisor: float | None) -> Any:
    """The sum of losses (N,) over `divisor`, by default N: what training minimises."""
    if divisor is None:
        return ops.mean(losses)
    return ops.multiply(ops.sum(losses), 1.0 / divisor if divisor else 0.0)


def weighted(losses: Any, sample_weight: Any) -> Any:
    """Losses (N,) times `sample_weight` (N,), if one is given."""
    if sample_weight is None:
        return losses
    weights = raw(sample_weight)
    if weights.size != losses.shape[0] or weights.ndim > 2:
        raise ShapeError(
            f"sample_weight {tuple(weights.shape)} for {losses.shape[0]} samples; pass one weight "
            "a sample, (N,)"
        )
    return ops.multiply(losses, beside(weights.reshape(-1), losses))


def losses_of(loss: Loss, y_true: Any, y_pred: Any) -> Any:
    """`loss.per_sample`, its result checked where the class is a user's."""
    losses = loss.per_sample(y_true, y_pred)
    if not type(loss).__module__.startswith("gpukit."):
        check_made(f"{type(loss).__name__}.per_sample", losses, y_pred, tuple(y_pred.shape[:1]))
    return losses


def mean_of_sample(values: Any) -> Any:
    axes = tuple(range(1, len(values.shape)))
    return ops.mean(values, axis=axes) if axes else values


def raw(y_true: Any) -> Any:
    """Labels as an array of some device."""
    return operand("labels", values_of("labels", y_true))


def place(labels: Any, y_pred: Any) -> Any:
    """Labels on the device of the predictions."""
    array = y_pred.array if isinstance(y_pred, Tensor) else y_pred
    return device_of(array).asarray(labels)


def beside(labels: Any, y_pred: Any) -> Any:
    """Labels on the device of the predictions, in their dtype."""
    return place(labels, y_pred).astype(y_pred.dtype, copy=False)


def same_shape(name: str, labels: Any, y_pred: Any) -> Any:
    """Labels in the shape of the predictions; (N,) and (N, 1) go together, nothing broadcasts."""
    shape = tuple(operand(name, y_pred).shape)
    if tuple(labels.shape) == shape:
        return labels
    if {tuple(labels.shape), shape} == {shape[:1], (*shape[:1], 1)}:
        return labels.reshape(shape)
    way_out = "give labels and predictions one shape"
    if labels.ndim == 1 and len(shape) == 2:
        way_out = f"use gpukit.utils.to_categorical(labels, {shape[1]}), or one output"
    raise mismatch(name, labels, y_pred, way_out)


def check_range(name: str, labels: Any, low: float, high: float) -> None:
    if labels.size and labels.dtype.kind != "b":
        least, most = float(labels.min()), float(labels.max())
        if not (low <= least and most <= high):
            wrong = most if not most <= high else least
            raise DataError(f"{name}: label {wrong:g} is out of range; labels are {low} to {high}")


def last_axis(kind: str, axis: Any) -> int:
    """`axis` of a `kind` of loss or metric, which takes classes on the last axis only."""
    if whole(f"{kind}'s axis", axis, low=None) != -1:
        raise SettingError(f"{kind}: axis={show(axis)}: classes are on the last axis; use -1")
    return -1


def mismatch(name: str, labels: Any, y_pred: Any, way_out: str) -> ShapeError:
    return ShapeError(
        f"{name}: labels {tuple(labels.shape)} do not fit predictions {tuple(y_pred.shape)}; "
        f"{way_out}"
    )
