"""Training, evaluation and prediction over batches."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from gpukit import metrics, ops
from gpukit.autograd import Tensor, no_grad
from gpukit.callbacks import Callback, CallbackList, History
from gpukit.core.config import number, show, snake_case, whole
from gpukit.core.settings import training_mode
from gpukit.data.feed import Batch, Feed
from gpukit.device import to_host
from gpukit.errors import CheckpointError, DataError, SettingError
from gpukit.losses import SparseCategoricalCrossentropy, losses_of, weighted
from gpukit.ops.loss import check_labels
from gpukit.training.compiled import Compiled
from gpukit.training.feeds import as_feed, class_weighted, feeds_of, labelless
from gpukit.training.hooks import has_own, predict_by_own, reset, test_by_own, train_by_own
from gpukit.training.memory import shortage
from gpukit.training.monitors import check_monitors
from gpukit.training.progress import progress_for
from gpukit.training.replay import take_step_twice
from gpukit.training.state import TrainingState
from gpukit.training.step import Figures, Work, take_step, train_step

__all__ = ["evaluate", "fit", "predict", "test_step", "train_step"]


_CHECKED = 1 << 20  # outputs, at most, on which the loss is tried before training


def test_step(
    model: Compiled, x: Any, y: Any, views: int = 1, sample_weight: Any = None
) -> Figures:
    """The figures of `take_step` without an update.

    Of every sample there may be several `views` in a row in x: they are those of the mean output.
    """
    with no_grad(), training_mode(False):
        if views == 1:
            outputs = model.for_loss(x)
            losses = losses_of(model.training_loss, y, outputs)
        else:
            outputs = _mean_of_views(model, x, views)
            losses = losses_of(model.loss, y, outputs)
        penalty = model.penalty()
        losses = weighted(losses, sample_weight)
        divisor = model.loss.divisor(y, sample_weight)
        count = model.loss.counts(divisor, len(x) // views)
        total = float(losses.sum().item())
        if divisor is not None and divisor != count:  # the mean over batches of their sums
            total *= count / divisor
        if penalty is not None:
            total += penalty.item() * count
        return {
            "loss": (total, count),
            **model.measure(y, outputs, sample_weight, fused=views == 1),
        }


def _mean_of_views(model: Compiled, x: Any, views: int) -> Tensor:
    """The model's outputs for x (N·views, …), averaged over the views: (N, …)."""
    outputs = model(Tensor.wrap(x))
    if views == 1:
        return outputs
    shape = (len(x) // views, views, *outputs.shape[1:])
    return ops.mean(ops.reshape(outputs, shape=shape), axis=1)


def fit(
    model: Compiled,
    x: Any,
    y: Any = None,
    batch_size: int | None = 32,
    epochs: int = 1,
    verbose: Any = "auto",
    callbacks: Callback | Sequence[Callback] | None = None,
    validation_split: float = 0.0,
    validation_data: Any = None,
    shuffle: bool = True,
    initial_epoch: int = 0,
    accumulate: int = 1,
    replay: int = 0,
    *,
    class_weight: Mapping[int, float] | None = None,
    sample_weight: Any = None,
    steps_per_epoch: int | None = None,
    validation_steps: int | None = None,
    validation_batch_size: int | None = None,
    validation_freq: int | Sequence[int] = 1,
    seed: int | None = None,
    state: TrainingState | None = None,
) -> History:
    """Train on samples x (N, …) and targets y (N, …), or on what gives batches instead of both.

    That is a `data.Feed`, with an order and a seed of its own, an object whose [i] is batch i
    (Keras's Sequence or PyDataset), a PyTorch DataLoader or Dataset, a list of batches (x, y), or
    a generator of them. `steps_per_epoch` is the number of batches of an epoch (default: all; a
    generator needs it); the next epoch then goes on where this one stopped.

    `sample_weight` (N,) weights the losses of samples, whose sum is still divided by their number,
    and `weighted_metrics` of `compile`; batches may bring it as (x, y, weights). `class_weight`
    does so by class number, 1 for classes that it lacks.

    `validation_data` is a pair (x, y), or (x, y, weights), or gives batches, the first
    `validation_steps` of which are used; `validation_split` takes that fraction from the end of
    arrays, before any shuffling. `validation_freq` validates after every so many epochs, or after
    those that it lists, from 1.
    `verbose` is "auto" or 1 (a progress bar on stderr), 2 (a line an epoch) or 0. `accumulate`
    computes each batch in so many micro-batches, one after the other in less memory, and sums
    their gradients. Every `replay` steps (0: never) one is computed twice; ReplayError where the
    bits differ. `seed` (default: the model's) fixes the order of arrays.

    `state` goes on where an earlier run stopped. So does an `initial_epoch` that the model's
    training state has reached, whether it was trained to there or loaded: callbacks then remember
    what those before them, of the same classes in the same order, did.

    Returns the history: `.history["loss"]` and so on, one figure an epoch.
    """
    if model.is_fitting:
        raise SettingError(
            f"{model.name}: fit was called within fit, whose epochs it would take over; call "
            "evaluate or train_on_batch in callbacks, and fit afterwards"
        )
    epochs = whole("epochs", epochs)
    initial_epoch = whole("initial_epoch", initial_epoch, low=0)
    validation_split = number("validation_split", validation_split, low=0, below=1)
    if isinstance(callbacks, Callback):
        callbacks = [callbacks]
    if callbacks is not None and not isinstance(callbacks, (list, tuple)):
        raise SettingError(f"fit: callbacks={show(callbacks)}: use a list of gpukit.callbacks")
    accumulate = whole("accumulate", accumulate)
    replay = whole("replay", replay, low=0)
    seed = model.context.seed if seed is None else seed
    feed, validation = feeds_of(
        x,
        y,
        batch_size,
        shuffle,
        seed,
        validation_split,
        validation_data,
        steps_per_epoch,
        validation_steps,
        validation_batch_size,
        sample_weight,
    )
    validated = _validated(validation_freq)
    if feed.count == 0:
        raise DataError("fit: there are no images to train on")
    if feed.views != 1:
        raise SettingError(
            f"fit: the feed gives {feed.views} views of each image, which are for evaluation; "
            "train on a feed of one"
        )
    model.prepare(_like(feed))
    own = has_own(model, "train_step")
    if own and (accumulate > 1 or replay):
        raise SettingError(
            f"{model.name} has a train_step of its own, which fit does not know how to cut or to "
            "repeat; leave accumulate and replay out"
        )
    if not own:
        _check_targets(model, feed)
        _warn_of_logits(model)
    if class_weight is not None:
        if sample_weight is not None:
            raise SettingError("fit: class_weight beside sample_weight; give one of them")
        feed = class_weighted(feed, class_weight, (model.output_shape or (1,))[-1] or 1)
    if validation is None:
        if validation_freq != 1:
            raise SettingError(
                "fit: validation_freq is for validation_data, of which there are none"
            )
    else:
        if validation.count == 0:
            raise DataError("fit: there are no images in validation_data")
        model.prepare(_like(validation))
        if not has_own(model, "test_step"):
            _check_targets(model, validation)
    if not (own or model.trainable_weights):
        warnings.warn(
            f"{model.name} has no trainable weights: fit only measures; set trainable = True of "
            "the model, then of layers",
            stacklevel=2,
        )
    if state is None:
        restored = [c.restore(model) for c in callbacks or () if isinstance(c, Callback)]
        reached = model.training_state
        going_on = any(restored) or (initial_epoch > 0 and reached.epoch == initial_epoch)
        state = reached if going_on else TrainingState(epoch=initial_epoch)
    if state.feed:
        feed.take_up(state.feed)
    state.feed = feed.config()
    history = History()
    every = CallbackList(_savers_last([*(callbacks or ()), history, _NoteStop()]), model)
    every.set_params({"epochs": epochs, "steps": feed.steps, "verbose": verbose})
    if not own:
        check_monitors(every, model, validation is not None)
    model.training_state = state
    state.metrics = {} if own else model._metrics
    if state.batch:
        state.bring_back_metrics()
    model.stop_training = state.stopped
    model.not_finite = ""
    warned = False
    progress = progress_for(
        verbose, epochs=epochs, steps=feed.steps, images=feed.count, state=state
    )
    with model.fitting(), progress:
        every.on_train_begin()
        _recall(every, state)
        model.callbacks = every
        while state.epoch < epochs and not model.stop_training:
            epoch = state.epoch
            if state.batch == 0:
                if own:
                    reset(model)
                else:
                    metrics.reset(model.metrics)
                every.on_epoch_begin(epoch)
            _run_epoch(model, feed, state, every, progress, accumulate, replay)
            logs = {"epoch": epoch, **state.figures()}
            if validation is not None and validated(epoch + 1):
                figures = evaluate(model, validation, callbacks=every)
                logs.update({f"val_{name}": value for name, value in figures.items()})
            logs["lr"] = float(model.optimizer.learning_rate)
            logs["seconds"] = round(state.seconds, 3)
            state.finish_epoch(dict(logs))
            every.on_epoch_end(epoch, logs)
            if not math.isfinite(logs.get("loss", 0.0)) and not model.stop_training and not warned:
                warned = True
                first = f"; {model.not_finite}" if model.not_finite else ""
                warnings.warn(
                    f"epoch {epoch + 1}: the loss is {logs['loss']}{first}. Use a smaller learning "
                    "rate or look for NaN in the data; callbacks.TerminateOnNaN() stops training",
                    stacklevel=2,
                )
            progress.epoch_done(logs)
            for remark in [*feed.remarks(), *(validation.remarks() if validation else ())]:
                progress.say(remark)
        state.callbacks, state.callback_arrays = every.state(), every.arrays()
        state.stopped = False
        every.on_train_end(state.history[-1] if state.history else None)
    return history


def _validated(frequency: int | Sequence[int]) -> Callable[[int], bool]:
    """Whether the epoch of a number, from 1, is validated."""
    if isinstance(frequency, (list, tuple)):
        epochs = {whole("validation_freq", n) for n in frequency}
        return epochs.__contains__
    every = whole("validation_freq", frequency)
    return lambda epoch: epoch % every == 0


def _like(feed: Feed) -> np.ndarray:
    """An array like all samples of `feed` that takes no memory, for `Model.prepare`."""
    return np.broadcast_to(np.zeros((), feed.dtype), (feed.count, *feed.image_shape))


def _check_targets(model: Compiled, feed: Feed) -> None:
    """Refuse, before anything is changed, targets that the loss would refuse in some batch."""
    y = feed.targets
    if y is None:
        return
    assert model.output_shape is not None
    shape = [n or 1 for n in model.output_shape[1:]]
    first = y[: max(1, min(64, _CHECKED // math.prod(shape)))]
    model.loss.divisor(first)
    with no_grad():
        outputs = model.device.asarray(np.full([len(first), *shape], 0.5, model.dtype))
        losses_of(model.loss, first, Tensor.wrap(outputs))
    loss = model.loss
    if isinstance(loss, SparseCategoricalCrossentropy) and y.dtype.kind in "iu":
        check_labels(y if loss.ignore_class is None else y[y != loss.ignore_class], shape[-1])


def _warn_of_logits(model: Compiled) -> None:
    """Say so where the loss takes the last layer's sums for probabilities."""
    last, loss = model.last_layer, model.loss
    if getattr(loss, "from_logits", True) or getattr(last, "activation", "none") is not None:
        return
    warnings.warn(
        f"{last.label} has no activation, but {snake_case(type(loss).__name__)} takes "
        f"probabilities: give the layer activation={loss.fused_activation!r}, or the loss "
        "from_logits=True",
        stacklevel=3,
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
    model: Compiled,
    feed: Feed,
    state: TrainingState,
    every: CallbackList,
    progress: Any,
    accumulate: int,
    replay: int,
) -> None:
    own = has_own(model, "train_step")
    before = state.seconds
    begun = time.perf_counter()
    with _batches(feed, state.epoch, state.batch) as batches:
        for batch in batches:
            every.on_train_batch_begin(state.batch)
            if own:
                state.sums.update(train_by_own(model, batch))
            else:
                for name, sums in _step(model, Work(batch, accumulate), replay).items():
                    state.add(name, sums)
            state.batch += 1
            state.seconds = before + time.perf_counter() - begun
            progress.step(len(batch.x), state)
            every.on_train_batch_end(state.batch - 1, state.figures())
            if model.stop_training:
                break


def _step(model: Compiled, work: Work, replay: int) -> Figures:
    """A step on `work`, computed twice where its number is a multiple of `replay`."""
    twice = replay > 0 and (model.context.step + 1) % replay == 0
    try:
        return take_step_twice(model, work) if twice else take_step(model, work)
    except MemoryError as error:
        reason = str(error)
    # Here, where the arrays of the step that failed are gone.
    raise shortage(model, work, reason)


def _batches(feed: Feed, number: int = 0, start: int = 0) -> closing[Generator[Batch]]:
    """The batches of an epoch, to be closed where they are not read to the end."""
    return closing(batch for batch in feed.epoch(number, start))


def evaluate(
    model: Compiled,
    x: Any,
    y: Any = None,
    *,
    batch_size: int | None = 256,
    callbacks: CallbackList | None = None,
    steps: int | None = None,
    sample_weight: Any = None,
) -> dict[str, float]:
    """Mean loss and metrics over (x, y), or over what x gives as in `fit`; the figures do not
    depend on how batches are cut, beyond rounding. `steps` uses that many batches."""
    feed = as_feed("evaluate", x, y, batch_size, steps, sample_weight)
    if feed.count == 0:
        raise DataError("evaluate: there are no images")
    model.prepare(_like(feed))
    own = has_own(model, "test_step")
    if own:
        _refuse_views(model, "test_step", feed)
        reset(model)
    told = CallbackList([]) if callbacks is None else callbacks
    state = TrainingState(metrics={} if own else model._metrics)
    told.on_test_begin()
    with metrics.fresh(model.metrics, model.is_fitting), _batches(feed) as batches:
        for number, batch in enumerate(batches):
            told.on_test_batch_begin(number)
            if own:
                state.sums.update(test_by_own(model, batch))
            else:
                inputs = model.to_device(batch.x, batch.shift)
                found = test_step(model, inputs, batch.y, feed.views, batch.weight)
                for name, sums in found.items():
                    state.add(name, sums)
            if told.hear("on_test_batch_end"):
                told.on_test_batch_end(number, state.figures())
        if not state.sums:
            raise DataError("evaluate: no image of the feed could be read")
        figures = state.figures()
    told.on_test_end(figures)
    return figures


def _refuse_views(model: Compiled, step: str, feed: Feed) -> None:
    if feed.views != 1:
        raise SettingError(
            f"{model.name} has a {step} of its own, which takes one view of each image; the feed "
            f"gives {feed.views}"
        )


def predict(
    model: Compiled,
    x: Any,
    *,
    batch_size: int | None = 256,
    steps: int | None = None,
    callbacks: CallbackList | None = None,
) -> np.ndarray:
    """The outputs of `model` for every sample of x, an array or what gives batches as in `fit`
    (x alone, or with y, which is ignored), on the host.

    Where a feed gives several views of each sample, the mean of their outputs.
    """
    feed = labelless("predict", x, batch_size, steps)
    model.prepare(_like(feed))
    own = has_own(model, "predict_step")
    if own:
        _refuse_views(model, "predict_step", feed)
    told = CallbackList([]) if callbacks is None else callbacks
    outputs = []
    told.on_predict_begin()
    with no_grad(), training_mode(False), _batches(feed) as batches:
        for number, batch in enumerate(batches):
            told.on_predict_batch_begin(number)
            if own:
                made = predict_by_own(model, batch)
            else:
                inputs = model.to_device(batch.x, batch.shift)
                made = _mean_of_views(model, inputs, feed.views).array
            outputs.append(to_host(made))
            told.on_predict_batch_end(number, {"outputs": outputs[-1]})
    told.on_predict_end()
    if not outputs:
        shape = model.output_shape or (0,)
        return np.zeros([0, *(n or 0 for n in shape[1:])], model.dtype)
    return np.concatenate(outputs)
