"""Models as files: what a checkpoint holds, and how a model comes back from one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpukit import __version__, losses, optimizers
from gpukit import metrics as metric_family
from gpukit.data.normalise import Normalise
from gpukit.device import Device
from gpukit.errors import CheckpointError, GpukitError
from gpukit.models.base import Base
from gpukit.models.functional import Model
from gpukit.models.sequential import Sequential
from gpukit.training import checkpoint
from gpukit.training.state import TrainingState

_CALLBACKS = "callbacks/"
_KINDS: dict[str, type[Sequential] | type[Model]] = {"Sequential": Sequential, "Model": Model}


def save(model: Base, path: str | Path, *, weights_only: bool = False) -> None:
    """Write `model`, its optimiser and the state of training to `path`.

    With `weights_only` the optimiser and the state of training are left out.
    """
    tensors = model.state_tensors()
    compiled = None
    if model._optimizer is not None and not weights_only:
        tensors.update(model.optimizer.state())
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
    if model.callbacks is not None and not weights_only:
        state["callbacks"] = model.callbacks.state()
        for name, array in model.callbacks.arrays().items():
            tensors[f"{_CALLBACKS}{name}"] = array
    checkpoint.write(path, tensors, state)


def load_model(path: str | Path, device: str | Device | None = None) -> Sequential | Model:
    """The model in the checkpoint at `path`, on `device`, ready to train on.

    Raises CheckpointError for a file that is missing, damaged or not a gpukit model.
    """
    tensors, state = checkpoint.read(path)
    try:
        description = state["model"]
        kind = _KINDS[description["class"]]
        model = kind.from_structure(
            description["structure"],
            name=description["name"],
            dtype=description["dtype"],
            device=device,
            seed=int(state["context"]["seed"]),
        )
        if state["compiled"] is not None:
            _compile(model, state["compiled"])
    except GpukitError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise CheckpointError(
            f"{path}: its model description is not readable ({error!r})"
        ) from None
    _restore(model, tensors, state, str(path))
    return model


def load_into(model: Base, path: str | Path) -> None:
    """Take over the checkpoint at `path` into `model`."""
    tensors, state = checkpoint.read(path)
    _restore(model, tensors, state, str(path))


def _compile(model: Base, compiled: Mapping[str, Any]) -> None:
    model.compile(
        optimizers.get(compiled["optimizer"]),
        None if compiled["loss"] is None else losses.get(compiled["loss"]),
        [metric_family.get(c) for c in compiled["metrics"]],
    )


def _restore(
    model: Base, tensors: Mapping[str, np.ndarray], state: Mapping[str, Any], source: str
) -> None:
    training = TrainingState.from_json(state.get("training"))
    model.load_tensors(tensors, source)
    compiled = state.get("compiled")
    if compiled is not None and model._optimizer is not None:
        saved = optimizers.get(compiled["optimizer"])
        if type(saved) is type(model.optimizer):
            model._optimizer = saved
            saved.load_state(tensors)
    context = state.get("context") or {}
    model.context.seed = int(context.get("seed", 0))
    model.context.step = int(context.get("step", 0))
    normalise = state.get("normalise")
    model.normalise = None if normalise is None else Normalise.from_config(normalise)
    model.class_names = tuple(state.get("class_names") or ())
    training.callbacks = dict(state.get("callbacks") or {})
    training.callback_arrays = {
        name.removeprefix(_CALLBACKS): array
        for name, array in tensors.items()
        if name.startswith(_CALLBACKS)
    }
    model.training_state = training
