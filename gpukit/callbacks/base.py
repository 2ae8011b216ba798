"""Base class of callbacks, with the events of training, and CallbackList."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpukit.core.config import show
from gpukit.errors import SettingError

Logs = dict[str, Any]


class Callback:
    """Base of all callbacks: does nothing at any event. `model` is the one that trains.

    `saves_model`: called after the others, because what they remember is saved with the model.
    """

    model: Any = None
    params: Mapping[str, Any] = {}
    saves_model = False

    def set_model(self, model: Any) -> None:
        """Told once before training begins."""
        self.model = model

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Told once before training begins: "epochs", "steps" of an epoch and "verbose"."""
        self.params = params

    def restore(self, model: Any) -> bool:
        """Before training: whether `model` was brought to where an interrupted `fit` stopped."""
        return False

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Training begins; a resumed run calls `load_state` after this."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Training ends, early or not."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Epoch `epoch`, from 0, begins."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Epoch `epoch` is done and validated; `logs` has its figures."""

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """`on_train_batch_begin` by its older name."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """`on_train_batch_end` by its older name."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Batch `batch` of the epoch, from 0, begins."""
        self.on_batch_begin(batch, logs=logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Batch `batch` is done; `logs` has the means of the epoch so far."""
        self.on_batch_end(batch, logs=logs)

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """`evaluate`, or the validation of an epoch, begins."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """It is done; `logs` has its figures."""

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Batch `batch` of it, from 0, begins."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Batch `batch` of it is done; `logs` has the means so far."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """`predict` begins."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """`predict` is done."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Batch `batch` of it, from 0, begins."""

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Batch `batch` of it is done; `logs["outputs"]` has the outputs, on the host."""

    def state(self) -> dict[str, Any]:
        """What is remembered, as JSON can hold it."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Remembered arrays by name, for the tensors of a checkpoint."""
        return {}

    def load_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from what `arrays` gave."""


class CallbackList(Callback):
    """Several callbacks as one: each event goes to all of them in order."""

    def __init__(self, callbacks: Sequence[Any], model: Any = None) -> None:
        self.callbacks: list[Callback] = []
        self._hearing: dict[str, list[Callback]] = {}
        if not isinstance(callbacks, (list, tuple)):
            raise SettingError(f"callbacks={show(callbacks)}: use a list of gpukit.callbacks")
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise SettingError(
                    f"{show(callback)} is no callback; pass objects of gpukit.callbacks"
                )
            self.callbacks.append(callback)
        if model is not None:
            self.set_model(model)

    def set_model(self, model: Any) -> None:
        self.model = model
        for callback in self.callbacks:
            callback.set_model(model)

    def set_params(self, params: Mapping[str, Any]) -> None:
        for callback in self.callbacks:
            callback.set_params(dict(params))

    def on_train_begin(self, logs: Logs | None = None) -> None:
        for callback in self.callbacks:
            callback.on_train_begin({} if logs is None else logs)

    def on_train_end(self, logs: Logs | None = None) -> None:
        for callback in self.callbacks:
            callback.on_train_end({} if logs is None else logs)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        for callback in self.callbacks:
            callback.on_epoch_begin(epoch, {} if logs is None else logs)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        for callback in self.callbacks:
            callback.on_epoch_end(epoch, {} if logs is None else logs)

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        for callback in self.hear("on_train_batch_begin"):
            callback.on_train_batch_begin(batch, {} if logs is None else logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        for callback in self.hear("on_train_batch_end"):
            callback.on_train_batch_end(batch, {} if logs is None else logs)

    def on_test_begin(self, logs: Logs | None = None) -> None:
        for callback in self.callbacks:
            callback.on_test_begin({} if logs is None else logs)

    def on_test_end(self, logs: Logs | None = None) -> None:
        for callback in self.callbacks:
            callback.on_test_end({} if logs is None else logs)

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        for callback in self.hear("on_test_batch_begin"):
            callback.on_test_batch_begin(batch, {} if logs is None else logs)

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        for callback in self.hear("on_test_batch_end"):
            callback.on_test_batch_end(batch, {} if logs is None else logs)

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        for callback in self.callbacks:
            callback.on_predict_begin({} if logs is None else logs)

    def on_predict_end(self, logs: Logs | None = None) -> None:
        for callback in self.callbacks:
            callback.on_predict_end({} if logs is None else logs)

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        for callback in self.hear("on_predict_batch_begin"):
            callback.on_predict_batch_begin(batch, {} if logs is None else logs)

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        for callback in self.hear("on_predict_batch_end"):
            callback.on_predict_batch_end(batch, {} if logs is None else logs)

    def hear(self, event: str) -> list[Callback]:
        """The callbacks that do something at `event`, which comes with every batch."""
        if event not in self._hearing:
            names = (event, event.replace("_train_", "_"))
            self._hearing[event] = [
                c for c in self.callbacks if any(_has_own(c, name) for name in names)
            ]
        return self._hearing[event]

    def state(self) -> dict[str, Any]:
        return {key: callback.state() for key, callback in self._keys().items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Each callback loads the state of the saved one at its place, if of its class."""
        for key, callback in self._keys().items():
            if key in state:
                callback.load_state(state[key])

    def arrays(self) -> dict[str, np.ndarray]:
        return {
            f"{key}/{name}": array
            for key, callback in self._keys().items()
            for name, array in callback.arrays().items()
        }

    def load_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        for key, callback in self._keys().items():
            start = f"{key}/"
            own = {k[len(start) :]: a for k, a in arrays.items() if k.startswith(start)}
            if own:
                callback.load_arrays(own)

    def _keys(self) -> dict[str, Callback]:
        return {f"{i}-{type(c).__name__}": c for i, c in enumerate(self.callbacks)}


def _has_own(callback: Callback, event: str) -> bool:
    own = getattr(type(callback), event) is not getattr(Callback, event)
    return own or event in vars(callback)
