"""Training, evaluation and prediction over batches."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gpukit.autograd import Tensor, no_grad
from gpukit.callbacks import Callback, CallbackList, History
from gpukit.config import number, snake_case, whole
from gpukit.data.batches import batch_count, batches
from gpukit.device import to_host
from gpukit.errors import CheckpointError, DataError, DTypeError, SettingError, ShapeError
from gpukit.losses import SparseCategoricalCrossentropy
from gpukit.ops.loss import check_labels
from gpukit.settings import training_mode
from gpukit.training.progress import progress_for
from gpukit.training.state import TrainingState

if TYPE_CHECKING:
    from gpukit.models.base import Base


def train_step(model: Base, x: Any, y: Any) -> dict[str, tuple[float, float]]:
    """One update on a batch: (sum, weight) of the loss and of every metric.

    The loss is the mean over the batch plus the penalties of regularisers; the weight is the
    number of samples.
    """
    with training_mode():
        outputs = model.for_loss(x)
        loss = model.training_loss.per_sample(y, outputs).mean()
        penalty = model.penalty()
        if penalty is not None:
            loss = loss + penalty
    loss.backward()
    model.optimizer.step(model)
    model.constrain()
    model.zero_grad()
    model.context.step += 1
    count = float(len(x))
    figures = {"loss": (loss.item() * count, count)}
    figures.update(model.measure(y, outputs))
    return figures


def test_step(model: Base, x: Any, y: Any) -> dict[str, tuple[float, float]]:
    """The figures of `train_step` without an update."""
    with no_grad(), training_mode(False):
        outputs = model.for_loss(x)
        losses = model.training_loss.per_sample(y, outputs)
        penalty = model.penalty()
        count = float(len(x))
        total = float(losses.sum().item())
        if penalty is not None:
            total += penalty.item() * count
        return {"loss": (total, count), **model.measure(y, outputs)}


def fit(
    model: Base,
    x: Any,
    y: Any,
    *,
    batch_size: int = 32,
    epochs: int = 1,
    verbose: Any = "auto",
    callbacks: Sequence[Callback] = (),
    validation_split: float = 0.0,
    validation_data: tuple[Any, Any] | None = None,
    shuffle: bool = True,
    initial_epoch: int = 0,
    seed: int | None = None,
    state: TrainingState | None = None,
) -> History:
    """Train `model`; see `Model.fit`.

    `state` goes on where an earlier run stopped. So does an `initial_epoch` that the model's
    training state has reached, whether it was trained to there or loaded: callbacks then remember
    what those before them, of the same classes in the same order, did.
    """
    x, y = as_arrays(x, y)
    batch_size, epochs = whole("batch_size", batch_size), whole("epochs", epochs)
    initial_epoch = whole("initial_epoch", initial_epoch, low=0)
    validation_split = number("validation_split", validation_split, low=0, below=1)
    x, y, validation = _split_end(x, y, 0.0 if validation_data is not None else validation_split)
    if validation_data is not None:
        if not isinstance(validation_data, (list, tuple)) or len(validation_data) != 2:
            raise SettingError("fit: validation_data is a pair of inputs and targets, (x, y)")
        validation = as_arrays(*validation_data)
    if len(x) == 0:
        raise DataError("fit: there are no images to train on")
    model.prepare(x)
    _check_targets(model, y)
    if validation is not None:
        if len(validation[0]) == 0:
            raise DataError("fit: there are no images in validation_data")
        model.prepare(validation[0])
        _check_targets(model, validation[1])
    _warn_of_logits(model)
    if state is None:
        reached = model.training_state
        going_on = initial_epoch > 0 and reached.epoch == initial_epoch
        state = reached if going_on else TrainingState(epoch=initial_epoch)
    seed = model.context.seed if seed is None else seed
    history = History()
    every = CallbackList(_savers_last([*callbacks, history, _NoteStop()]), model)
    model.training_state = state
    model.stop_training = state.stopped
    steps = batch_count(len(x), batch_size)
    warned = False
    progress = progress_for(verbose, epochs=epochs, steps=steps, images=len(x), state=state)
    with progress:
        every.on_train_begin()
        _recall(every, state)
        model.callbacks = every
        while state.epoch < epochs and not model.stop_training:
            epoch = state.epoch
            if state.batch == 0:
                every.on_epoch_begin(epoch)
            feed = batches(
                x,
                y,
                batch_size,
                shuffle=shuffle,
                seed=seed,
                epoch=epoch,
                start=state.batch,
                normalise=model.normalise,
            )
            _run_epoch(model, feed, state, every, progress)
            logs = {"epoch": epoch, **state.figures()}
            if validation is not None:
                figures = evaluate(model, *validation, batch_size=batch_size)
                logs.update({f"val_{name}": value for name, value in figures.items()})
            logs["lr"] = float(model.optimizer.learning_rate)
            logs["seconds"] = round(state.seconds, 3)
            state.finish_epoch(dict(logs))
            every.on_epoch_end(epoch, logs)
            if not math.isfinite(logs["loss"]) and not model.stop_training and not warned:
                warned = True
                warnings.warn(
                    f"epoch {epoch + 1}: the loss is {logs['loss']}. Use a smaller learning rate "
                    "or look for NaN in the data; callbacks.TerminateOnNaN() stops training there",
                    stacklevel=3,
                )
            progress.epoch_done(logs)
        state.callbacks, state.callback_arrays = every.state(), every.arrays()
        state.stopped = False
        every.on_train_end()
    return history


def _check_targets(model: Base, y: np.ndarray) -> None:
    """Refuse, before anything is changed, targets that the loss would refuse in some batch."""
    assert model.output_shape is not None
    shape = [n or 1 for n in model.output_shape[1:]]
    first = y[:64]
    with no_grad():
        outputs = model.device.asarray(np.full([len(first), *shape], 0.5, model.dtype))
        model.loss.per_sample(first, Tensor.wrap(outputs))
    if isinstance(model.loss, SparseCategoricalCrossentropy) and y.dtype.kind in "iu":
        check_labels(y, shape[-1])


def _warn_of_logits(model: Base) -> None:
    """Say so where the loss takes the last layer's sums for probabilities."""
    last, loss = model.last_layer, model.loss
    if getattr(loss, "from_logits", True) or getattr(last, "activation", "none") is not None:
        return
    warnings.warn(
        f"{last.label} has no activation, but {snake_case(type(loss).__name__)} takes "
        f"probabilities: give the layer activation={loss.fused_activation!r}, or the loss "
        "from_logits=True",
        stacklevel=4,
    )


class _NoteStop(Callback):
    """Lets a model that is saved at the end of an epoch know that this one was the last."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.model.training_state.stopped = self.model.stop_training


def _savers_last(callbacks: Sequence[Any]) -> list[Any]:
    """Callbacks that save the model come after those whose memory they save with it."""
    return sorted(callbacks, key=lambda callback: getattr(callback, "saves_model", False))


def _recall(every: CallbackList, state: TrainingState) -> None:
    try:
        every.load_state(state.callbacks)
        every.load_arrays(state.callback_arrays)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CheckpointError(
            f"what callbacks remembered cannot be taken up ({error!r}); go on with the callbacks "
            "that the checkpoint was saved with"
        ) from None


def _run_epoch(
    model: Base,
    feed: Iterable[tuple[Any, Any]],
    state: TrainingState,
    every: CallbackList,
    progress: Any,
) -> None:
    before = state.seconds
    begun = time.perf_counter()
    for x, y in feed:
        every.on_train_batch_begin(state.batch)
        figures = train_step(model, model.to_device(x), y)
        for name, (total, weight) in figures.items():
            state.add(name, total, weight)
        state.batch += 1
        state.seconds = before + time.perf_counter() - begun
        progress.step(len(x), state)
        every.on_train_batch_end(state.batch - 1, state.figures())
        if model.stop_training:
            break


def evaluate(model: Base, x: Any, y: Any, *, batch_size: int = 256) -> dict[str, float]:
    """Mean loss and metrics over (x, y); the figures do not depend on how batches are cut, beyond
    rounding."""
    x, y = as_arrays(x, y)
    batch_size = whole("batch_size", batch_size)
    if len(x) == 0:
        raise DataError("evaluate: there are no images")
    model.prepare(x)
    sums = TrainingState()
    for xs, ys in batches(x, y, batch_size, shuffle=False, normalise=model.normalise):
        for name, (total, weight) in test_step(model, model.to_device(xs), ys).items():
            sums.add(name, total, weight)
    return sums.figures()


def predict(model: Base, x: Any, *, batch_size: int = 256) -> np.ndarray:
    """The outputs of `model` for every sample of x, on the host."""
    x = as_array("x", x)
    batch_size = whole("batch_size", batch_size)
    model.prepare(x)
    outputs = []
    nothing = np.zeros(len(x), np.int64)
    with no_grad(), training_mode(False):
        for xs, _ in batches(x, nothing, batch_size, shuffle=False, normalise=model.normalise):
            outputs.append(to_host(model(Tensor.wrap(model.to_device(xs))).array))
    if not outputs:
        shape = model.output_shape or (0,)
        return np.zeros([0, *(n or 0 for n in shape[1:])], model.dtype)
    return np.concatenate(outputs)


def as_arrays(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets as host arrays of one length."""
    x, y = as_array("x", x), as_array("y", y)
    if y.ndim == 2 and y.shape[1] == 1 and y.dtype.kind in "iu":
        y = y[:, 0]
    if len(x) != len(y):
        raise DataError(f"x has {len(x)} samples and y {len(y)}; there must be one target a sample")
    return x, y


def as_array(name: str, value: Any) -> np.ndarray:
    """`value` as a host array with a batch axis, its numbers as they are."""
    try:
        array = to_host(value.array) if isinstance(value, Tensor) else to_host(value)
    except ValueError as error:
        raise ShapeError(f"{name} is no array: {error}") from None
    if array.ndim == 0 or array.dtype.kind not in "biuf":
        raise DTypeError(
            f"{name} is {array.dtype} of shape {array.shape}; pass an array of numbers"
        )
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _split_end(
    x: np.ndarray, y: np.ndarray, fraction: float
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray] | None]:
    """Keras's validation split: the last part of the data, the same in every epoch."""
    if fraction == 0:
        return x, y, None
    first = int(len(x) * (1 - fraction))
    if first == 0 or first == len(x):
        raise DataError(
            f"validation_split={fraction} of {len(x)} samples leaves a part empty; use more data"
        )
    return x[:first], y[:first], (x[first:], y[first:])
