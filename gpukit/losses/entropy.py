"""Cross-entropies, focal ones, and other losses of probabilities."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from gpukit import ops
from gpukit.autograd.results import operand
from gpukit.core.config import flag, number, whole
from gpukit.device import to_host
from gpukit.errors import ShapeError
from gpukit.losses.base import (
    EPSILON,
    Loss,
    beside,
    check_range,
    last_axis,
    mean_of_sample,
    mismatch,
    place,
    raw,
    same_shape,
)
from gpukit.utils import to_categorical, whole_labels

_MEAN = "sum_over_batch_size"


class _OfProbabilities(Loss):
    """Base of losses of probabilities, or of logits with `from_logits`."""

    from_logits: bool
    _variant: Loss | None = None

    def from_logits_variant(self) -> Loss | None:
        if self.from_logits:
            return None
        if self._variant is None:  # made once: every step asks for it
            self._variant = self._of_logits()
        return self._variant

    def _of_logits(self) -> Self:
        variant = copy.copy(self)
        variant.from_logits = True
        return variant


def _share(kind: str, value: Any) -> float:
    return number(f"{kind}'s label_smoothing", value, low=0, high=1)


class CategoricalCrossentropy(_OfProbabilities):
    """-Σ t ln p over the classes, for one-hot labels or probabilities t (N, …, K).

    Predictions (N, …, K) are probabilities, or logits with `from_logits`; over several positions
    (pixels) of a sample their mean. `label_smoothing` s makes t (1 - s)·t + s/K.
    """

    fused_activation = "softmax"

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = _MEAN,
        name: str = "categorical_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name, dtype)
        self.from_logits = flag("from_logits", from_logits)
        self.label_smoothing = _share("CategoricalCrossentropy", label_smoothing)
        self.axis = last_axis("CategoricalCrossentropy", axis)

    def per_sample(self, y_true: Any, y_pred: Any) -> Any:
        targets = smoothed(_one_hot(self.name, y_true, y_pred), self.label_smoothing)
        if self.from_logits:
            return _by_position(ops.softmax_cross_entropy, y_pred, targets)
        return mean_of_sample(_cross_entropy(targets, y_pred))


class SparseCategoricalCrossentropy(_OfProbabilities):
    """-ln p[label], for class numbers (N, …) or (N, …, 1) from 0 to K - 1.

    Predictions (N, …, K) are probabilities, or logits with `from_logits`; over several positions
    (pixels) of a sample their mean. Positions labelled `ignore_class` do not count: the mean is
    over the others of the batch.
    """

    fused_activation = "softmax"

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = _MEAN,
        axis: int = -1,
        name: str = "sparse_categorical_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name, dtype)
        self.from_logits = flag("from_logits", from_logits)
        self.ignore_class = (
            None if ignore_class is None else whole("ignore_class", ignore_class, low=None)
        )
        self.axis = last_axis("SparseCategoricalCrossentropy", axis)

    def per_sample(self, y_true: Any, y_pred: Any) -> Any:
        _check_classes(self.name, y_pred)
        labels = raw(y_true)
        shape = tuple(y_pred.shape)
        if tuple(labels.shape) not in (shape[:-1], (*shape[:-1], 1)):
            way_out = "give one class number for each sample"
            if tuple(labels.shape) == shape:
                way_out = "use categorical_crossentropy for one-hot labels"
            elif len(shape) > 2:
                way_out = (
                    "give one class number for each position, or end the model with Flatten() and "
                    "Dense(classes)"
                )
            raise mismatch(self.name, labels, y_pred, way_out)
        labels = labels.reshape(-1)
        if labels.dtype.kind not in "iu":
            labels = whole_labels(to_host(labels))
        valid = None
        if self.ignore_class is not None:
            valid = labels != self.ignore_class
            labels = labels * valid
        flat = y_pred if len(shape) == 2 else ops.reshape(y_pred, shape=(-1, shape[-1]))
        if self.from_logits:
            losses = ops.softmax_cross_entropy(flat, place(labels, y_pred))
        else:
            one_hot = to_categorical(to_host(labels), shape[-1], y_pred.dtype)
            losses = _cross_entropy(place(one_hot, y_pred), flat)
        if valid is not None:
            losses = ops.multiply(losses, beside(valid, y_pred))
        if len(shape) == 2:
            return losses
        return mean_of_sample(ops.reshape(losses, shape=shape[:-1]))

    def shares(self, y_true: Any) -> np.ndarray | None:
        if self.ignore_class is None:
            return None
        labels = to_host(raw(y_true))
        return (labels != self.ignore_class).reshape(len(labels), -1).mean(axis=1)


class BinaryCrossentropy(_OfProbabilities):
    """-t ln p - (1 - t) ln(1 - p), the mean over the outputs of a sample; t from 0 to 1.

    Predictions are probabilities, or logits with `from_logits`. `label_smoothing` s makes t
    (1 - s)·t + s/2.
    """

    fused_activation = "sigmoid"

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = _MEAN,
        name: str = "binary_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name, dtype)
        self.from_logits = flag("from_logits", from_logits)
        self.label_smoothing = _share("BinaryCrossentropy", label_smoothing)
        self.axis = last_axis("BinaryCrossentropy", axis)

    def per_sample(self, y_true: Any, y_pred: Any) -> Any:
        t = _binary(self.name, y_true, y_pred, self.label_smoothing)
        if self.from_logits:
            # ln(1 + exp(z)) - t·z: what both logarithms become for p = sigmoid(z).
            return mean_of_sample(ops.subtract(ops.softplus(y_pred), ops.multiply(y_pred, t)))
        return mean_of_sample(_binary_entropy(t, _clipped(y_pred)))


class BinaryFocalCrossentropy(_OfProbabilities):
    """The binary cross-entropy times (1 - p_t)^gamma, p_t = t·p + (1 - t)·(1 - p).

    With `apply_class_balancing` also times t·alpha + (1 - t)·(1 - alpha). Lin et al., 2017.
    """

    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = _MEAN,
        name: str = "binary_focal_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name, dtype)
        kind = "BinaryFocalCrossentropy"
        self.apply_class_balancing = flag("apply_class_balancing", apply_class_balancing)
        self.alpha = number(f"{kind}'s alpha", alpha, low=0, high=1)
        self.gamma = number(f"{kind}'s gamma", gamma, low=0)
        self.from_logits = flag("from_logits", from_logits)
        self.label_smoothing = _share(kind, label_smoothing)
        self.axis = last_axis(kind, axis)

    def per_sample(self, y_true: Any, y_pred: Any) -> Any:
        t = _binary(self.name, y_true, y_pred, self.label_smoothing)
        p = ops.sigmoid(y_pred) if self.from_logits else y_pred
        # 1 - p_t = t + p - 2·t·p
        missed = ops.add(ops.multiply(p, 1 - 2 * t), t)
        losses = ops.multiply(ops.power(missed, self.gamma), _binary_entropy(t, _clipped(p)))
        if self.apply_class_balancing:
            losses = ops.multiply(losses, t * self.alpha + (1 - t) * (1 - self.alpha))
        return mean_of_sample(losses)


class CategoricalFocalCrossentropy(_OfProbabilities):
    """-Σ alpha·(1 - p)^gamma·t ln p over the classes, for labels t (N, …, K). Lin et al., 2017.

    `alpha` is a number, or one for each class.
    """

    def __init__(
        self,
        alpha: float | Sequence[float] = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = _MEAN,
        name: str = "categorical_focal_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name, dtype)
        kind = "CategoricalFocalCrossentropy"
        several = isinstance(alpha, (list, tuple, np.ndarray))
        self.alpha = (
            [number(f"{kind}'s alpha", a, low=0) for a in alpha]  # type: ignore[union-attr]
            if several
            else number(f"{kind}'s alpha", alpha, low=0)
        )
        self.gamma = number(f"{kind}'s gamma", gamma, low=0)
        self.from_logits = flag("from_logits", from_logits)
        self.label_smoothing = _share(kind, label_smoothing)
        self.axis = last_axis(kind, axis)

    def per_sample(self, y_true: Any, y_pred: Any) -> Any:
        targets = smoothed(_one_hot(self.name, y_true, y_pred), self.label_smoothing)
        classes = y_pred.shape[-1]
        if isinstance(self.alpha, list) and len(self.alpha) != classes:
            raise ShapeError(
                f"{self.name}: {len(self.alpha)} values of alpha for {classes} classes; give one "
                "for each"
            )
        p = _normalised(ops.softmax(y_pred) if self.from_logits else y_pred)
        factors = ops.power(ops.subtract(1.0, p), self.gamma)
        alpha = np.broadcast_to(np.asarray(self.alpha, y_pred.dtype), (classes,))
        terms = ops.multiply(ops.multiply(ops.log(p), factors), targets * beside(alpha, y_pred))
        return mean_of_sample(ops.negative(ops.sum(terms, axis=-1)))


class KLDivergence(Loss):
    """Σ t ln(t / p) over the last axis, for probabilities."""

    def __init__(
        self,
        reduction: str | None = _MEAN,
        name: str = "kl_divergence",
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name, dtype)

    def per_sample(self, y_true: Any, y_pred: Any) -> Any:
        t = beside(same_shape(self.name, raw(y_true), y_pred), y_pred)
        t = np.minimum(np.maximum(t, EPSILON), 1)
        p = ops.minimum(ops.maximum(y_pred, EPSILON), 1.0)
        terms = ops.multiply(ops.subtract(np.log(t), ops.log(p)), t)
        return mean_of_sample(ops.sum(terms, axis=-1))


class Poisson(Loss):
    """p - t ln p, the mean over the outputs of a sample."""

    def __init__(
        self, reduction: str | None = _MEAN, name: str = "poisson", dtype: Any = None
    ) -> None:
        super().__init__(reduction, name, dtype)

    def per_sample(self, y_true: Any, y_pred: Any) -> Any:
        t = beside(same_shape(self.name, raw(y_true), y_pred), y_pred)
        logs = ops.log(ops.add(y_pred, EPSILON))
        return mean_of_sample(ops.subtract(y_pred, ops.multiply(logs, t)))


def smoothed(targets: Any, share: float) -> Any:
    """Targets (…, K) moved by `share` towards 1/K."""
    return targets if share == 0 else targets * (1 - share) + share / targets.shape[-1]


def _check_classes(name: str, y_pred: Any) -> None:
    operand(name, y_pred)
    if len(y_pred.shape) < 2:
        raise ShapeError(
            f"{name}: predictions {tuple(y_pred.shape)} must be (N, classes); end the model with "
            "Flatten() and Dense(classes)"
        )


def _one_hot(name: str, y_true: Any, y_pred: Any) -> Any:
    """Labels of the shape of the predictions (N, …, K), on their device, in their dtype."""
    _check_classes(name, y_pred)
    labels = raw(y_true)
    if tuple(labels.shape) != tuple(y_pred.shape):
        way_out = "give labels and predictions one shape"
        if labels.ndim < len(y_pred.shape) or labels.shape[-1] == 1:
            way_out = (
                "use sparse_categorical_crossentropy, or one-hot labels from "
                f"gpukit.utils.to_categorical(labels, {y_pred.shape[-1]})"
            )
        raise mismatch(name, labels, y_pred, way_out)
    return beside(labels, y_pred)


def _by_position(loss: Any, y_pred: Any, targets: Any) -> Any:
    """`loss` of rows (M, K), for predictions (N, …, K): the mean of each sample."""
    shape = tuple(y_pred.shape)
    if len(shape) == 2:
        return loss(y_pred, targets)
    flat = ops.reshape(y_pred, shape=(-1, shape[-1]))
    losses = loss(flat, targets.reshape(-1, shape[-1]))
    return mean_of_sample(ops.reshape(losses, shape=shape[:-1]))


def _binary(name: str, y_true: Any, y_pred: Any, smoothing: float) -> Any:
    labels = same_shape(name, raw(y_true), y_pred)
    check_range(name, labels, 0, 1)
    t = beside(labels, y_pred)
    return t if smoothing == 0 else t * (1 - smoothing) + smoothing / 2


def _binary_entropy(t: Any, p: Any) -> Any:
    gained = ops.multiply(ops.log(p), t)
    missed = ops.multiply(ops.log(ops.subtract(1.0, p)), 1 - t)
    return ops.negative(ops.add(gained, missed))


def _clipped(p: Any) -> Any:
    return ops.minimum(ops.maximum(p, EPSILON), 1 - EPSILON)


def _normalised(probabilities: Any) -> Any:
    """p made to sum to 1, away from 0 and 1."""
    return _clipped(ops.divide(probabilities, ops.sum(probabilities, axis=-1, keepdims=True)))


def _cross_entropy(targets: Any, probabilities: Any) -> Any:
    """-Σ t ln p over the last axis, with p made to sum to 1 first."""
    terms = ops.multiply(ops.log(_normalised(probabilities)), targets)
    return ops.negative(ops.sum(terms, axis=-1))
