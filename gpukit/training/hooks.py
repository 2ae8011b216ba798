"""Steps that a model's class writes itself, as in Keras: train_step, test_step, predict_step.

`fit`, `evaluate` and `predict` call those of a class or of an object; the ones that `Trainer` has
stand for what is computed directly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from gpukit.autograd import Tensor, no_grad
from gpukit.autograd.results import values_of
from gpukit.core.config import show
from gpukit.core.settings import training_mode
from gpukit.data.feed import Batch
from gpukit.device import to_host
from gpukit.errors import SettingError
from gpukit.metrics import Metric
from gpukit.training.step import Figures

F = TypeVar("F", bound=Callable[..., Any])


def default(step: F) -> F:
    """Mark a step that stands for what is computed directly."""
    step.is_default = True  # type: ignore[attr-defined]
    return step


def has_own(model: Any, step: str) -> bool:
    """Whether the class of `model`, or the object, writes `step` itself."""
    return not getattr(getattr(model, step), "is_default", False)


def reset(model: Any) -> None:
    """Begin a pass: forget the batches that steps and metrics have counted."""
    model.step_sums = {}
    found = [*model.metrics, *(m for m in vars(model).values() if isinstance(m, Metric))]
    for metric in found:
        metric.reset_state()


def train_by_own(model: Any, batch: Batch) -> Figures:
    """The figures of the model's own `train_step` on a batch."""
    with training_mode():
        made = model.train_step(_data(model, batch))
    model.constrain()
    return _figures(model, "train_step", made)


def test_by_own(model: Any, batch: Batch) -> Figures:
    """The figures of the model's own `test_step` on a batch."""
    with no_grad(), training_mode(False):
        return _figures(model, "test_step", model.test_step(_data(model, batch)))


def predict_by_own(model: Any, batch: Batch) -> Any:
    """The outputs of the model's own `predict_step` on the inputs of a batch."""
    made = model.predict_step(_data(model, batch)[0])
    return made.array if isinstance(made, Tensor) else made


def _data(model: Any, batch: Batch) -> tuple[Any, ...]:
    weights = () if batch.weight is None else (batch.weight,)
    return Tensor.wrap(model.to_device(batch.x, batch.shift)), batch.y, *weights


def _figures(model: Any, step: str, made: Any) -> Figures:
    """What a user's step returned, as sums of one batch."""
    if not isinstance(made, Mapping):
        raise SettingError(
            f"{model.name}: {step} returned {show(made)}; return a dict of figures, such as "
            '{"loss": loss}'
        )
    figures: Figures = {}
    for name, value in made.items():
        array = value.array if isinstance(value, Tensor) else values_of(step, value)
        array = np.asarray(to_host(array))
        if not isinstance(name, str) or array.size != 1 or array.dtype.kind not in "biuf":
            raise SettingError(
                f"{model.name}: {step} returned {show(value)} for {name!r}; return a number"
            )
        figures[name] = (float(array.reshape(())), 1.0)
    return figures
