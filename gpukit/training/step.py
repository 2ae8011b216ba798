"""One training step: forward, backward, update, and checks for values that are not finite.

The loss and the gradients are checked before the update, while the parameters are those that the
step began with: a failed step can be recomputed bit by bit, with every layer watched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from gpukit import ops
from gpukit.autograd.tape import watched_by, watcher
from gpukit.core.settings import training_mode
from gpukit.data.feed import Batch
from gpukit.losses import losses_of, reduced, weighted
from gpukit.metrics import Sums, add_sums
from gpukit.training.compiled import Compiled

Figures = dict[str, Sums]  # of a batch, by key of the logs
STAGES = ("forward", "backward", "update")
_LAST = 1 << 30  # a place behind those of all layers


@dataclass(frozen=True)
class Work:
    """A batch for one step, computed as `accumulate` micro-batches whose gradients are summed.

    Micro-batches differ in size by one sample at most, and are weighted by size: the gradient is
    that of the whole batch but for rounding and for layers that use statistics of the batch.
    """

    batch: Batch
    accumulate: int = 1

    def micro_batches(self, model: Compiled) -> Iterator[tuple[int, Any, Any, Any, float]]:
        """(first sample, inputs on the device, targets, weights or None, share of the batch)."""
        x, y, shift, weight = self.batch.x, self.batch.y, self.batch.shift, self.batch.weight
        count = len(x)
        number = max(1, min(self.accumulate, count))
        if number == 1:
            yield 0, model.to_device(x, shift), y, weight, 1.0
            return
        ends = [count * i // number for i in range(number + 1)]
        for first, end in pairwise(ends):
            rows = slice(first, end)
            inputs = model.to_device(x[rows], None if shift is None else shift[rows])
            weights = None if weight is None else weight[rows]
            yield first, inputs, y[rows], weights, (end - first) / count


def train_step(model: Compiled, x: Any, y: Any, sample_weight: Any = None) -> Figures:
    """`take_step` on a batch as it is."""
    return take_step(model, Work(Batch(x, y, weight=sample_weight)), check=False)


def take_step(model: Compiled, work: Work, check: bool = True) -> Figures:
    """One update: (sum, weight) of the loss and of every metric.

    The loss is the mean over the batch plus the penalties of regularisers; the weight is the
    number of samples. With `check`, `model.not_finite` says from then on where the first value that
    is not finite came about, if one did.
    """
    try:
        figures = gradients(model, work)
        if check:
            buffers = model.parameter_buffers()
            for buffer in buffers:
                buffer.gather_grads()
            # Started on every device before the first result is waited for.
            flags = [ops.all_finite(buffer.grads) for buffer in buffers]
            if not (np.isfinite(figures["loss"][0]) and all(map(bool, flags))):
                model.not_finite = model.not_finite or first_not_finite(model, work)
        model.optimizer.step(model)
        model.constrain()
        watch = watcher.get()
        if watch is not None:
            show_state(model, watch.see)
    finally:
        # Also where the step failed: the next one must not find its gradients.
        model.zero_grad()
        model.context.sample = 0
    model.context.step += 1
    return figures


def gradients(model: Compiled, work: Work, measure: bool = True) -> Figures:
    """Leave the gradients of the batch in the model's parameters; the figures of `take_step`."""
    trained = bool(model.parameter_buffers())
    divisor = model.loss.divisor(work.batch.y, work.batch.weight)
    count = model.loss.counts(divisor, len(work.batch.x))
    figures: Figures = {}
    losses = []
    for first, x, y, weight, share in work.micro_batches(model):
        model.context.sample = first
        with training_mode():
            outputs = model.for_loss(x)
            each = weighted(losses_of(model.training_loss, y, outputs), weight)
            loss = reduced(each, divisor)
            if share != 1.0 and divisor is None:
                loss = loss * share
            penalty = model.penalty()
            if penalty is not None:
                loss = loss + (penalty if share == 1.0 else penalty * share)
        watch = watcher.get()
        if watch is not None:
            watch.see("forward", _LAST, "the loss", loss)
        if trained:
            loss.backward()
        losses.append(loss.detach())
        del loss, each
        for name, sums in (model.measure(y, outputs, weight) if measure else {}).items():
            figures[name] = add_sums(figures.get(name), sums)
    return {"loss": (sum(float(loss.item()) for loss in losses) * count, count), **figures}


def first_not_finite(model: Compiled, work: Work) -> str:
    """Names the first value that is not finite in the current step, and the step.

    Changes nothing: the step is recomputed up to its update.
    """
    state = model.training_state
    first = f"{_culprit(model, work)} was the first that is not finite"
    return f"{first}, in epoch {state.epoch + 1}, step {state.batch + 1}"


def _culprit(model: Compiled, work: Work) -> str:
    for name, array in (("input", work.batch.x), ("target", work.batch.y)):
        if array.dtype.kind == "f" and not bool(ops.all_finite(array)):
            return f"the {name} of the model"
    for parameter in model.parameters:
        if parameter.trainable and not bool(ops.all_finite(parameter)):
            return f"{parameter.name}, before the update,"
    found = _FirstNotFinite()
    with fixed(model), watched_by(found):
        model.zero_grad()
        gradients(model, work, measure=False)
    for parameter in model.parameters:
        if not found.what and parameter.grad is not None and not ops.all_finite(parameter.grad):
            found.what = f"the gradient of {parameter.name}"
    return found.what or "the loss"


@contextmanager
def fixed(model: Compiled) -> Iterator[None]:
    """A block after which parameters that are not trained, moving averages, are as before."""
    kept = [(p, p.array.copy()) for p in model.parameters if not p.trainable]
    try:
        yield
    finally:
        for parameter, array in kept:
            parameter.assign(array)


class Order:
    """Base of watchers: orders what they see, whichever thread was first."""

    def __init__(self) -> None:
        self._micro_batch, self._stage = 0, ""

    def order(self, stage: str, place: int) -> tuple[int, int, int]:
        """(micro-batch, stage, place): larger means computed later."""
        if stage == "forward" and self._stage == "backward":
            self._micro_batch += 1
        self._stage = stage
        return (self._micro_batch, STAGES.index(stage), place)


class _FirstNotFinite(Order):
    """Keeps the first place at which an array that is not finite was seen."""

    def __init__(self) -> None:
        super().__init__()
        self.what = ""
        self._first = (1 << 30, 0, 0)

    def see(self, stage: str, place: int, what: str, array: Any) -> None:
        here = self.order(stage, place)
        if here < self._first and not bool(ops.all_finite(array)):
            self._first, self.what = here, in_words(stage, what)


def in_words(stage: str, what: str) -> str:
    """How messages name what a watcher saw: "the output of Dense 'fc1'"."""
    if what == "the loss":
        return what
    return {
        "forward": f"the output of {what}",
        "backward": f"the gradient that {what} passes back",
        "update": f"{what} after the update",
    }[stage]


def show_state(model: Compiled, see: Callable[[str, int, str, Any], None]) -> None:
    """Show `see` the parameters and the optimiser's slots after the update."""
    for place, (name, array) in enumerate(state_arrays(model)):
        see("update", place, name, array)


def state_arrays(model: Compiled) -> Iterator[tuple[str, Any]]:
    """Name and array of all parameters, then of the optimiser's slots."""
    for parameter in model.parameters:
        yield parameter.name, parameter.flat_view()
    yield from model.optimizer.slot_arrays()
