"""Models as files: what a checkpoint holds, and how a model comes back from one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gpukit import __version__, losses, optimizers
from gpukit import metrics as metric_family
from gpukit.core.config import path as as_path
from gpukit.core.config import show
from gpukit.data.normalise import Normalise
from gpukit.device import Device, get_device
from gpukit.errors import CheckpointError, DeviceError, GpukitError, SettingError
from gpukit.layers.base import parameter_budget
from gpukit.model.base import Base
from gpukit.model.functional import Model
from gpukit.model.sequential import Sequential
from gpukit.model.shards import Wholes
from gpukit.training import checkpoint
from gpukit.training.state import TrainingState

_CALLBACKS = "callbacks/"
_KINDS: dict[str, type[Sequential] | type[Model]] = {"Sequential": Sequential, "Model": Model}


def save(model: Base, path: str | Path, *, weights_only: bool = False) -> None:
    """Write `model`, its optimiser and the state of training to `path`.

    With `weights_only` the optimiser and the state of training are left out.
    """
    checkpoint.write_atomically(path, content(model, path, weights_only=weights_only))


def content(model: Base, path: str | Path, *, weights_only: bool = False) -> bytes:
    """What `save` puts into the file `path`."""
    tensors = model.state_tensors()
    compiled = None
    if model._optimizer is not None and not weights_only:
        tensors.update(Wholes(model.layers).join(model.optimizer.state()))
        compiled = {
            "optimizer": model.optimizer.get_config(),
            "loss": None if model._loss is None else model.loss.get_config(),
            "metrics": [metric.get_config() for metric in model._metrics],
        }
    state = {
        "gpukit_version": __version__,
        "model": {
            "class": "Sequential" if isinstance(model, Sequential) else "Model",
            "name": model.name,
            "dtype": model.dtype.name,
            "structure": model.structure(),
        },
        "context": {"seed": model.context.seed, "step": model.context.step},
        "normalise": None if model.normalise is None else model.normalise.config(),
        "class_names": list(model.class_names),
        "compiled": compiled,
        "training": (TrainingState() if weights_only else model.training_state).to_json(),
    }
    if not weights_only:
        remembered, arrays = _callbacks(model)
        state["callbacks"] = remembered
        tensors.update({f"{_CALLBACKS}{name}": array for name, array in arrays.items()})
    return checkpoint.content(as_path("path", path), tensors, state)


def _callbacks(model: Base) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What callbacks remember: those of the last `fit`, else what was loaded."""
    if model.callbacks is not None:
        return model.callbacks.state(), model.callbacks.arrays()
    return model.training_state.callbacks, model.training_state.callback_arrays


def load_model(
    path: str | Path,
    device: str | Device | None = None,
    devices: Sequence[str | Device] | None = None,
) -> Sequential | Model:
    """The model in the checkpoint at `path`, ready to train on: on `device`, or spread again.

    `devices` are as many as the model has columns, whatever devices it was on when it was saved.
    Raises CheckpointError for a file that is missing, damaged or not a gpukit model.
    """
    tensors, state = checkpoint.read(as_path("path", path))
    with _reading(path):
        description = state["model"]
        kind = _KINDS[description["class"]]
        places = kind.places(description["structure"])
    chosen = _devices(path, places, device, devices)
    with _reading(path):
        # A description that asks for more values than the file has is wrong, and may ask for more
        # than there is memory.
        with parameter_budget(sum(array.size for array in tensors.values())):
            model = kind.from_structure(
                description["structure"],
                name=str(description["name"]),
                dtype=description["dtype"],
                devices=chosen,
                seed=_Content(tensors, state).seed,
            )
        if state["compiled"] is not None:
            _compile(model, state["compiled"])
        _restore(model, tensors, state)
    return model


def _devices(
    path: str | Path,
    places: int,
    device: str | Device | None,
    devices: Sequence[str | Device] | None,
) -> list[Device]:
    """The device for each of the places over which the model at `path` can be spread."""
    if devices is None:
        return [get_device(device)] * places
    if device is not None:
        raise SettingError(f"load_model: device={str(device)!r} beside devices; leave out one")
    names = [devices] if isinstance(devices, (str, Device)) else devices
    if not isinstance(names, (list, tuple)):
        raise SettingError(f"load_model: devices={show(devices)}: use a list of names")
    if len(names) != places:
        raise SettingError(
            f"{path}: the model in it can be on {places} device{'s' * (places > 1)}, "
            f"{len(names)} were given; name {places}, or one as device=…"
        )
    return [get_device(name) for name in names]


def load_into(model: Base, path: str | Path) -> None:
    """Take over the checkpoint at `path` into `model`.

    Raises CheckpointError, before anything is changed, where it does not belong to this model.
    """
    tensors, state = checkpoint.read(as_path("path", path))
    with _reading(path):
        _restore(model, tensors, state)


@contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    """Within the block, whatever does not fit in the checkpoint's content is a CheckpointError."""
    try:
        yield
    except DeviceError:
        raise
    except GpukitError as error:
        text = str(error)
        raise CheckpointError(text if str(path) in text else f"{path}: {text}") from None
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"{path}: its description is not readable ({error!r})") from None
    except (MemoryError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: its description asks for too much ({type(error).__name__})"
        ) from None


def _compile(model: Base, compiled: Mapping[str, Any]) -> None:
    model.compile(
        optimizers.get(compiled["optimizer"]),
        None if compiled["loss"] is None else losses.get(compiled["loss"]),
        [metric_family.get(c) for c in compiled["metrics"]],
    )


class _Content:
    """Everything but the model's structure that a checkpoint says, read and checked at once."""

    def __init__(self, tensors: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        context = state["context"]
        self.seed, self.step = _count(context["seed"]), _count(context["step"])
        normalise = state["normalise"]
        self.normalise = None if normalise is None else Normalise.from_config(normalise)
        self.class_names = tuple(str(name) for name in state["class_names"])
        self.training = TrainingState.from_json(state["training"])
        self.training.callbacks = {k: dict(v) for k, v in state.get("callbacks", {}).items()}
        self.parameters: dict[str, np.ndarray] = {}
        self.optimizer: dict[str, np.ndarray] = {}
        for name, array in tensors.items():
            if name.startswith(_CALLBACKS):
                self.training.callback_arrays[name.removeprefix(_CALLBACKS)] = array
            elif name.startswith(f"{optimizers.PREFIX}/"):
                self.optimizer[name] = array
            else:
                self.parameters[name] = array

    def check(self, model: Base) -> None:
        """Refuse what does not belong to `model`."""
        ours = Wholes(model.layers).shapes
        for name, array in self.parameters.items():
            if name not in ours:
                raise CheckpointError(f"is of another model: {model.name} has no {name!r}")
            if array.dtype.kind != "f":
                raise CheckpointError(f"{name!r} is {array.dtype}, no floating point numbers")
        shape = model.output_shape
        if self.class_names and shape is not None and shape[-1] != len(self.class_names):
            raise CheckpointError(
                f"names {len(self.class_names)} classes, {model.name} has {shape[-1]} outputs"
            )


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} where a count belongs")
    return value


def _restore(model: Base, tensors: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
    """Overwrite `model` by a checkpoint's content, all of which is checked first."""
    content = _Content(tensors, state)
    content.check(model)
    wholes = Wholes(model.layers)
    wholes.take(content.parameters, "it", model.name)
    optimizer = None
    compiled = state["compiled"]
    if compiled is not None and model._optimizer is not None:
        saved = optimizers.get(compiled["optimizer"])
        if type(saved) is type(model.optimizer):
            saved.load_state(wholes.cut(content.optimizer))
            optimizer = saved
    model.load_tensors(content.parameters, "it")
    if optimizer is not None:
        model._optimizer = optimizer
    model.context.seed, model.context.step = content.seed, content.step
    model.normalise = content.normalise
    model.class_names = content.class_names
    model.training_state = content.training
    model.callbacks = None
