"""The base of metrics: sums over batches, and the figure that they make."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from gpukit import losses
from gpukit.autograd.results import operand, values_of
from gpukit.core.config import Configurable, show, snake_case, text
from gpukit.device import to_host
from gpukit.errors import DataError, SettingError, ShapeError
from gpukit.metrics.variable import Variable
from gpukit.utils import to_categorical, whole_labels

Sums = Sequence[float] | np.ndarray
_LABELS = "pass class numbers (N,) or one-hot labels (N, K)"


class Metric(Configurable):
    """Base of all metrics; `name` is the key in the logs.

    A metric is either `update`, the sums of a batch, and `figure`, what the sums of all batches
    mean; or, as in Keras, `update_state`, `result` and `reset_state` over variables that
    `add_weight` made. Figures are exact however batches are cut; sums are float64, on the host.

    `higher_is_better` says what callbacks with mode="auto" look for; None: they ask for a mode.
    """

    name = ""
    dtype: None = None
    higher_is_better: bool | None = None
    _sums: Sums | None = None
    _variables: tuple[Variable, ...] = ()

    def __init__(self, dtype: Any = None, name: str | None = None) -> None:
        kind = type(self).__name__
        if dtype is not None:
            raise SettingError(
                f"{kind}: dtype={show(dtype)}: metrics are summed in float64; leave dtype out"
            )
        self.name = snake_case(kind) if name is None else text(f"{kind}'s name", name)

    def update(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Sums:
        """Sums over the batch for labels and predictions (N, …), by default (Σ wv, Σ w).

        `sample_weight` (N,) weights samples; it is given only where it is not None.
        """
        raise NotImplementedError

    def figure(self, sums: Sums) -> Any:
        """The figure of the sums of all batches, by default their mean: a number, or an array."""
        total, weight = sums
        return total / weight if weight else 0.0

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count a batch towards `result`."""
        weights = () if sample_weight is None else (sample_weight,)
        self._sums = add_sums(self._sums, _checked(self, self.update(y_true, y_pred, *weights)))

    def result(self) -> Any:
        """The figure of all batches since `reset_state`; 0 before the first."""
        return 0.0 if self._sums is None else self.figure(self._sums)

    def reset_state(self) -> None:
        """Forget all batches."""
        self._sums = None
        for variable in self._variables:
            variable.reset()

    def __call__(self, *args: Any, **named: Any) -> Any:
        """`update_state`, then `result`."""
        self.update_state(*args, **named)
        return self.result()

    def add_weight(
        self,
        shape: Sequence[int] = (),
        initializer: Any = None,
        dtype: Any = None,
        name: str | None = None,
    ) -> Variable:
        """A variable (float64, on the host) for `update_state`; `reset_state` gives it its first
        value again, by default 0."""
        if dtype is not None and np.dtype(dtype).kind not in "iuf":
            raise SettingError(f"add_weight: dtype={show(dtype)}: use a number type")
        variable = Variable(tuple(shape), initializer, name or "")
        self._variables = (*self._variables, variable)
        return variable

    add_variable = add_weight

    @property
    def variables(self) -> list[Variable]:
        """What `add_weight` made."""
        return list(self._variables)

    @property
    def keeps_state(self) -> bool:
        """Whether the object itself holds the state of an epoch, as users' `update_state` does."""
        return type(self).update_state is not Metric.update_state


def add_sums(before: Sums | None, sums: Sums) -> Sums:
    """The sums of two sets of batches; None are those of no batch."""
    if before is None or len(before) == 0:
        return sums
    if len(sums) == 2:
        return (before[0] + sums[0], before[1] + sums[1])
    return np.add(before, sums)


def update_of(metric: Metric, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Sums:
    """The sums of a batch, checked; () of a metric that keeps its state itself."""
    weights = () if sample_weight is None else (sample_weight,)
    if metric.keeps_state:
        metric.update_state(losses.place(raw(y_true), y_pred), y_pred, *weights)
        return ()
    return _checked(metric, metric.update(y_true, y_pred, *weights))


def figure_of(metric: Metric, sums: Sums) -> Any:
    """The figure of `metric` in the types of JSON: a float, or lists of them."""
    found = metric.result() if metric.keeps_state else metric.figure(sums)
    if isinstance(found, float):
        return found
    array = np.asarray(to_host(values_of(f"{type(metric).__name__}.result", found)))
    if array.dtype.kind not in "biuf":
        raise SettingError(f"{type(metric).__name__}.result gave {show(found)}; return a number")
    return array.astype(np.float64).tolist()


def _checked(metric: Metric, sums: Any) -> Sums:
    if isinstance(sums, np.ndarray) and sums.ndim == 1 and sums.dtype == np.float64:
        return sums
    try:
        total, count = sums
        return float(total), float(count)
    except (TypeError, ValueError):
        raise SettingError(
            f"{type(metric).__name__}.update returned {show(sums)}; return (sum over the batch, "
            "number of samples)"
        ) from None


def state_of(metric: Metric) -> list[float]:
    """What the sums and the variables of a metric hold, for `load_state`."""
    sums = [] if metric._sums is None else [float(n) for n in metric._sums]
    return [*sums, *(float(n) for v in metric._variables for n in v.value.flat)]


def load_state(metric: Metric, state: Sequence[float]) -> None:
    """Let `metric` count on from what `state_of` gave; ValueError where that is another's."""
    first = len(state) - sum(v.value.size for v in metric._variables)
    if first < 0:
        raise ValueError(f"{metric.name} has variables for more than {len(state)} numbers")
    sums = state[:first]
    metric._sums = None if not first else (sums[0], sums[1]) if first == 2 else np.array(sums)
    for variable in metric._variables:
        end = first + variable.value.size
        variable.assign(np.reshape(state[first:end], variable.shape))
        first = end


def keep(metrics: Iterable[Metric]) -> Callable[[], None]:
    """A function that brings back what metrics that keep their state hold now."""
    kept = [(m, copy.deepcopy(vars(m))) for m in metrics if m.keeps_state]

    def bring_back() -> None:
        for metric, held in kept:
            vars(metric).clear()
            vars(metric).update(copy.deepcopy(held))

    return bring_back


def reset(metrics: Iterable[Metric]) -> None:
    """Begin a pass over data: metrics that keep their state forget it."""
    for metric in metrics:
        if metric.keeps_state:
            metric.reset_state()


@contextmanager
def fresh(metrics: Sequence[Metric], within: bool) -> Iterator[None]:
    """A pass over other data; `within` another pass, which finds its state again afterwards."""
    bring_back = keep(metrics) if within else lambda: None
    reset(metrics)
    try:
        yield
    finally:
        bring_back()


# What metrics compute with


def raw(values: Any) -> Any:
    """An array (N, …) of numbers, of some device."""
    array = numbers(values)
    if array.ndim == 0:
        raise ShapeError("metric: got one number; pass labels and predictions of samples, (N, …)")
    return array


def numbers(values: Any) -> Any:
    """An array of numbers of any shape, of some device."""
    return operand("metric", values_of("metric", values))


def host(values: Any) -> np.ndarray:
    """An array of numbers on the host."""
    return to_host(raw(values))


def weights_of(name: str, sample_weight: Any, count: int) -> np.ndarray:
    """Weights (N,) in float64, ones unless given."""
    if sample_weight is None:
        return np.ones(count)
    weights = host(sample_weight).astype(np.float64)
    if weights.size != count:
        raise ShapeError(
            f"{name}: sample_weight {weights.shape} for {count} samples; pass one weight a sample"
        )
    return weights.reshape(count)


def mean_sums(name: str, values: Any, sample_weight: Any = None) -> tuple[float, float]:
    """(Σ wv, Σ w) of values (N, …) on any device, the mean of each sample's."""
    count = int(values.shape[0])
    inner = values.size // max(count, 1)
    if sample_weight is None:
        return float(to_host(np.sum(values, dtype=np.float64))) / max(inner, 1), float(count)
    weights = weights_of(name, sample_weight, count)
    means = to_host(values).reshape(count, -1).astype(np.float64).mean(axis=1)
    return float(means @ weights), float(weights.sum())


def ratio(above: Any, below: Any) -> np.ndarray:
    """above / below; 0 where `below` is 0."""
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    return np.divide(above, below, out=np.zeros_like(above), where=below != 0)


def class_numbers(name: str, labels: Any, scores: Any) -> Any:
    """Class numbers (N, …) on the device of the predictions (N, …, K)."""
    if tuple(labels.shape) == tuple(scores.shape):
        return losses.place(np.argmax(labels, axis=-1), scores)
    if tuple(labels.shape) not in (tuple(scores.shape[:-1]), (*scores.shape[:-1], 1)):
        raise losses.mismatch(name, labels, scores, _LABELS)
    numbers = labels.reshape(scores.shape[:-1])
    if numbers.dtype.kind not in "iu":
        numbers = whole_labels(to_host(numbers))
    check_class_numbers(name, numbers, scores.shape[-1])
    # Unsigned 64-bit numbers cannot index everywhere.
    return losses.place(numbers.astype(np.int64, copy=False), scores)


def check_class_numbers(name: str, numbers: Any, classes: int) -> None:
    """Raise DataError where a class number is not in 0 … classes − 1."""
    if numbers.size and (int(numbers.min()) < 0 or int(numbers.max()) >= classes):
        wrong = int(numbers.min()) if int(numbers.min()) < 0 else int(numbers.max())
        raise DataError(
            f"{name}: label {wrong} is out of range: {classes} classes are numbered 0 to "
            f"{classes - 1}"
        )


def outputs_and_labels(name: str, y_true: Any, y_pred: Any) -> tuple[np.ndarray, np.ndarray]:
    """Labels and predictions of one shape (N, …), on the host.

    (N,) and (N, 1) go together; class numbers become one-hot where there are several outputs.
    """
    labels, scores = host(y_true), host(y_pred)
    if labels.shape == scores.shape:
        return labels, scores
    if labels.size == scores.size and {labels.shape, scores.shape} == {
        scores.shape[:1],
        (*scores.shape[:1], 1),
    }:
        return labels.reshape(scores.shape), scores
    if scores.ndim > 1 and scores.shape[-1] > 1:
        numbers = class_numbers(name, labels, scores)
        return to_categorical(numbers, scores.shape[-1]).reshape(scores.shape), scores
    raise losses.mismatch(name, labels, scores, "give labels and predictions one shape")
