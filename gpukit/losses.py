"""Losses: one number a sample, and their mean over the batch, which training minimises.

Labels may be arrays of the host; they are brought to where the predictions are. Predictions are
arrays or Tensors (N, …), results likewise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpukit import ops
from gpukit.autograd import Tensor
from gpukit.autograd.results import check_made, operand, values_of
from gpukit.core.config import Configurable, Family, flag
from gpukit.device import device_of, to_host
from gpukit.errors import DataError, ShapeError
from gpukit.utils import to_categorical, whole_labels

EPSILON = 1e-7  # probabilities are kept this far from 0 and 1, as in Keras


class Loss(Configurable):
    """Base of all losses.

    `fused_activation` names the activation that `from_logits_variant` computes together with the
    loss: a model that ends in it gives the outputs before it to that variant instead.
    """

    fused_activation: str | None = None

    def per_sample(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each sample, (N,). Raises ShapeError, and DataError for labels."""
        raise NotImplementedError

    def __call__(self, y_true: Any, y_pred: Any) -> Any:
        """The mean over the batch, of shape (); 0 for an empty batch."""
        losses = self.per_sample(y_true, y_pred)
        return ops.multiply(ops.sum(losses), 1.0 / max(losses.shape[0], 1))

    def from_logits_variant(self) -> Loss | None:
        """The same loss for outputs before `fused_activation`; None where there is none."""
        return None


class _CrossEntropy(Loss):
    def __init__(self, from_logits: bool = False) -> None:
        self.from_logits = flag("from_logits", from_logits)

    def from_logits_variant(self) -> Loss | None:
        return None if self.from_logits else type(self)(from_logits=True)


class CategoricalCrossentropy(_CrossEntropy):
    """-Σ t ln p over the classes, for one-hot labels or probabilities t (N, K).

    Predictions (N, K) are probabilities, or logits with `from_logits`.
    """

    fused_activation = "softmax"

    def per_sample(self, y_true: Any, y_pred: Any) -> Any:
        _check_classes("categorical_crossentropy", y_pred)
        labels = _raw(y_true)
        if tuple(labels.shape) != tuple(y_pred.shape):
            way_out = "give labels and predictions one shape"
            if labels.ndim == 1 or labels.shape[1:] == (1,):
                way_out = (
                    "use sparse_categorical_crossentropy, or one-hot labels from "
                    f"gpukit.utils.to_categorical(labels, {y_pred.shape[1]})"
                )
            raise mismatch("categorical_crossentropy", labels, y_pred, way_out)
        targets = _beside(labels, y_pred)
        if self.from_logits:
            return ops.softmax_cross_entropy(y_pred, targets)
        return _cross_entropy(targets, y_pred)


class SparseCategoricalCrossentropy(_CrossEntropy):
    """-ln p[label], for class numbers (N,) or (N, 1) from 0 to K - 1.

    Predictions (N, K) are probabilities, or logits with `from_logits`.
    """

    fused_activation = "softmax"

    def per_sample(self, y_true: Any, y_pred: Any) -> Any:
        _check_classes("sparse_categorical_crossentropy", y_pred)
        labels = _raw(y_true)
        if tuple(labels.shape) not in ((y_pred.shape[0],), (y_pred.shape[0], 1)):
            way_out = "give one class number for each sample"
            if tuple(labels.shape) == tuple(y_pred.shape):
                way_out = "use categorical_crossentropy for one-hot labels"
            raise mismatch("sparse_categorical_crossentropy", labels, y_pred, way_out)
        labels = labels.reshape(-1)
        if labels.dtype.kind not in "iu":
            labels = whole_labels(to_host(labels))
        if self.from_logits:
            return ops.softmax_cross_entropy(y_pred, place(labels, y_pred))
        one_hot = to_categorical(to_host(labels), y_pred.shape[1], y_pred.dtype)
        return _cross_entropy(place(one_hot, y_pred), y_pred)


class BinaryCrossentropy(_CrossEntropy):
    """-t ln p - (1 - t) ln(1 - p), the mean over the outputs of a sample; t from 0 to 1.

    Predictions are probabilities, or logits with `from_logits`.
    """

    fused_activation = "sigmoid"

    def per_sample(self, y_true: Any, y_pred: Any) -> Any:
        labels = _same_shape("binary_crossentropy", _raw(y_true), y_pred)
        _check_range("binary_crossentropy", labels, 0, 1)
        t = _beside(labels, y_pred)
        if self.from_logits:
            # ln(1 + exp(z)) - t·z: what both logarithms become for p = sigmoid(z).
            return _mean_of_sample(ops.subtract(ops.softplus(y_pred), ops.multiply(y_pred, t)))
        p = ops.minimum(ops.maximum(y_pred, EPSILON), 1 - EPSILON)
        gained = ops.multiply(ops.log(p), t)
        missed = ops.multiply(ops.log(ops.subtract(1.0, p)), 1 - t)
        return _mean_of_sample(ops.negative(ops.add(gained, missed)))


class MeanSquaredError(Loss):
    """(t - y)², the mean over the outputs of a sample."""

    def per_sample(self, y_true: Any, y_pred: Any) -> Any:
        labels = _same_shape("mean_squared_error", _raw(y_true), y_pred)
        return ops.squared_error(y_pred, _beside(labels, y_pred))


class Hinge(Loss):
    """max(0, 1 - t·y), the mean over the outputs of a sample, for t of -1 or 1 (or 0 or 1)."""

    def per_sample(self, y_true: Any, y_pred: Any) -> Any:
        labels = _same_shape("hinge", _raw(y_true), y_pred)
        _check_range("hinge", labels, -1, 1)
        t = _beside(labels, y_pred)
        if t.size and float(t.min()) >= 0:
            t = 2 * t - 1
        margin = ops.subtract(1.0, ops.multiply(y_pred, t))
        return _mean_of_sample(ops.maximum(margin, 0.0))


class _Function(Loss):
    """A user's function of (y_true, y_pred): a loss for each sample, or for each value."""

    def __init__(self, function: Callable[[Any, Any], Any]) -> None:
        self.function = function

    def per_sample(self, y_true: Any, y_pred: Any) -> Any:
        losses = self.function(place(_raw(y_true), y_pred), y_pred)
        name = f"the loss {getattr(self.function, '__name__', 'function')}"
        check_made(name, losses, y_pred, None)
        if not losses.shape or losses.shape[0] != y_pred.shape[0]:
            raise ShapeError(
                f"{name} gave shape {tuple(losses.shape)} for a batch of {y_pred.shape[0]}; "
                "return one loss for each sample"
            )
        return _mean_of_sample(losses)


def losses_of(loss: Loss, y_true: Any, y_pred: Any) -> Any:
    """`loss.per_sample`, its result checked where the class is a user's."""
    losses = loss.per_sample(y_true, y_pred)
    if not type(loss).__module__.startswith("gpukit."):
        check_made(f"{type(loss).__name__}.per_sample", losses, y_pred, tuple(y_pred.shape[:1]))
    return losses


def categorical_crossentropy(y_true: Any, y_pred: Any, from_logits: bool = False) -> Any:
    """Losses (N,) of predictions (N, K) for one-hot labels (N, K)."""
    return CategoricalCrossentropy(from_logits).per_sample(y_true, y_pred)


def sparse_categorical_crossentropy(y_true: Any, y_pred: Any, from_logits: bool = False) -> Any:
    """Losses (N,) of predictions (N, K) for class numbers (N,)."""
    return SparseCategoricalCrossentropy(from_logits).per_sample(y_true, y_pred)


def binary_crossentropy(y_true: Any, y_pred: Any, from_logits: bool = False) -> Any:
    """Losses (N,) of predictions (N, …) for labels of the same shape, 0 to 1."""
    return BinaryCrossentropy(from_logits).per_sample(y_true, y_pred)


def mean_squared_error(y_true: Any, y_pred: Any) -> Any:
    """Losses (N,) of predictions (N, …) for values of the same shape."""
    return MeanSquaredError().per_sample(y_true, y_pred)


def hinge(y_true: Any, y_pred: Any) -> Any:
    """Losses (N,) of predictions (N, …) for labels of the same shape, -1 or 1."""
    return Hinge().per_sample(y_true, y_pred)


def _cross_entropy(targets: Any, probabilities: Any) -> Any:
    """-Σ t ln p, with p made to sum to 1 first."""
    total = ops.sum(probabilities, axis=-1, keepdims=True)
    p = ops.minimum(ops.maximum(ops.divide(probabilities, total), EPSILON), 1 - EPSILON)
    return ops.negative(ops.sum(ops.multiply(ops.log(p), targets), axis=-1))


def _mean_of_sample(values: Any) -> Any:
    axes = tuple(range(1, len(values.shape)))
    return ops.mean(values, axis=axes) if axes else values


def _raw(y_true: Any) -> Any:
    """Labels as an array of some device."""
    return operand("labels", values_of("labels", y_true))


def place(labels: Any, y_pred: Any) -> Any:
    """Labels on the device of the predictions."""
    array = y_pred.array if isinstance(y_pred, Tensor) else y_pred
    return device_of(array).asarray(labels)


def _beside(labels: Any, y_pred: Any) -> Any:
    """Labels on the device of the predictions, in their dtype."""
    return place(labels, y_pred).astype(y_pred.dtype, copy=False)


def _check_classes(name: str, y_pred: Any) -> None:
    operand(name, y_pred)
    if len(y_pred.shape) != 2:
        raise ShapeError(
            f"{name}: predictions {tuple(y_pred.shape)} must be (N, classes); end the model with "
            "Flatten() and Dense(classes)"
        )


def _same_shape(name: str, labels: Any, y_pred: Any) -> Any:
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


def _check_range(name: str, labels: Any, low: float, high: float) -> None:
    if labels.size and labels.dtype.kind != "b":
        least, most = float(labels.min()), float(labels.max())
        if not (low <= least and most <= high):
            wrong = most if not most <= high else least
            raise DataError(f"{name}: label {wrong:g} is out of range; labels are {low} to {high}")


def mismatch(name: str, labels: Any, y_pred: Any, way_out: str) -> ShapeError:
    return ShapeError(
        f"{name}: labels {tuple(labels.shape)} do not fit predictions {tuple(y_pred.shape)}; "
        f"{way_out}"
    )


FUNCTIONS: dict[Any, type[Loss]] = {
    categorical_crossentropy: CategoricalCrossentropy,
    sparse_categorical_crossentropy: SparseCategoricalCrossentropy,
    binary_crossentropy: BinaryCrossentropy,
    mean_squared_error: MeanSquaredError,
    hinge: Hinge,
}


def _wrap(function: Callable[[Any, Any], Any]) -> Loss:
    made = FUNCTIONS.get(function)
    return _Function(function) if made is None else made()


_family = Family[Loss]("loss", Loss, wrap=_wrap)
_family.add(
    CategoricalCrossentropy,
    SparseCategoricalCrossentropy,
    BinaryCrossentropy,
    MeanSquaredError,
    Hinge,
    mse=MeanSquaredError,
)


def is_name(name: str) -> bool:
    """Whether `get` knows this name."""
    known = name in _family.classes or name.lower() in _family.aliases
    return known or _family.has_own(name)


get = _family.get
from_config = _family.from_config
register = _family.register
