"""The base of models, and their checkpoints: what these contain, and how a model loads one."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np

from gpukit import __version__, optimizers
from gpukit.core import registry
from gpukit.core.config import described, flag
from gpukit.core.config import path as as_path
from gpukit.data.normalise import Normalise
from gpukit.device import Device
from gpukit.errors import CheckpointError, DeviceError, GpukitError, SettingError
from gpukit.inspect import summary
from gpukit.model.attributes import refuse_call, refuse_unsaved, refuse_untrained
from gpukit.model.shards import RESERVED, Wholes
from gpukit.training import checkpoint
from gpukit.training.state import TrainingState
from gpukit.training.trainer import Trainer

_CALLBACKS = "callbacks/"

Structure = Mapping[str, Any]  # of a model, in JSON's types
Devices = Sequence[str | Device | None] | None  # one for each place of a model


class Base(Trainer):
    """The base of models: a network that is trained, shown, saved and loaded.

    Sequential and Model say how it is built.
    """

    kind: str  # the class in a checkpoint that `load_model` makes again

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        refuse_call(cls)

    def prepare(self, x: np.ndarray) -> None:
        refuse_untrained(self)
        super().prepare(x)

    @abstractmethod
    def structure(self) -> Structure:
        """What `from_structure` of the same class makes the same model of, in JSON's types."""

    @classmethod
    def places(cls, structure: Structure) -> int:
        """How many devices the model that `structure` describes can be spread over."""
        return 1

    @classmethod
    @abstractmethod
    def from_structure(cls, structure: Structure, devices: Devices = None, **settings: Any) -> Self:
        """The model that `structure` describes, on a device for each of its `places`."""

    def summary(self) -> None:
        """Print every layer's output shape, units, connections, weights, operations and memory."""
        summary.show(self)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes a model of: class, name, dtype, structure, what is frozen."""
        return {
            "class": self.kind,
            "name": self.name,
            "dtype": self.dtype.name,
            "structure": self.structure(),
            "frozen": frozen(self),
        }

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> Self:
        """A model as `get_config` describes it, with new first values, on the default device.

        `custom_objects` are classes and functions by the names that `config` has for them.
        """
        with registry.custom_objects(custom_objects):
            model = cls.from_structure(
                config["structure"], name=config["name"], dtype=config["dtype"]
            )
        if "frozen" in config:
            freeze(model, config["frozen"])
        return model

    def save(self, path: str | Path, overwrite: bool = True) -> None:
        """Write the model, its optimiser and the state of training to one safetensors file.

        Raises SettingError for classes and functions of users that are not registered. With
        `overwrite` False a file that exists is left alone: CheckpointError.
        """
        _write(self, path, overwrite, weights_only=False)

    def save_weights(self, path: str | Path, overwrite: bool = True) -> None:
        """Write the parameters, without optimiser and training, to one safetensors file."""
        _write(self, path, overwrite, weights_only=True)

    def load_weights(self, path: str | Path, skip_mismatch: bool = False) -> None:
        """Take over the parameters in a file of `save_weights` or `save`, by their names.

        CheckpointError, before anything is changed, where one is missing, unknown or of another
        shape; with `skip_mismatch` those that fit are taken, and a warning names the others.
        """
        tensors, _ = checkpoint.read(as_path("path", path))
        parameters = {
            name: array for name, array in tensors.items() if name.partition("/")[0] not in RESERVED
        }
        if flag("skip_mismatch", skip_mismatch):
            parameters = self._fitting(parameters, path)
        self.load_tensors(parameters, str(path))

    def _fitting(
        self, tensors: Mapping[str, np.ndarray], path: str | Path
    ) -> dict[str, np.ndarray]:
        """The parameters, from `tensors` where name and shape fit."""
        wanted = self.state_tensors()
        same = {n for n, a in tensors.items() if n in wanted and wanted[n].shape == a.shape}
        if others := sorted({*wanted, *tensors} - same):
            warnings.warn(
                f"{path}: {len(same)} of {len(wanted)} parameters of {self.name} are in it with "
                f"their shapes; not loaded: {', '.join(others)}",
                stacklevel=3,
            )
        return {name: tensors[name] if name in same else wanted[name] for name in wanted}

    def check_savable(self) -> None:
        """Refuse with SettingError what `save` would refuse, without writing anything."""
        with registry.unregistered() as found:
            self.get_config()
            _compiled(self)
        registry.refuse(self.name, found)

    def load(self, path: str | Path) -> Self:
        """Take over the parameters, optimiser and state of training of a checkpoint.

        What is frozen in this model stays frozen; `load_model` takes that from the file. Raises
        CheckpointError, before anything is changed, where it does not belong to this model.
        """
        if self.is_fitting:
            raise SettingError(
                f"{self.name}: load within fit would replace what fit keeps of its epochs; load "
                "afterwards, or use set_weights"
            )
        load_into(self, path)
        return self

    def state_tensors(self) -> dict[str, np.ndarray]:
        """Every parameter on the host by name; of layers that are split, the whole ones."""
        tensors = {parameter.name: parameter.numpy() for parameter in self.parameters}
        return Wholes(self.layers).join(tensors)

    def load_tensors(self, tensors: Mapping[str, np.ndarray], source: str) -> None:
        """Overwrite every parameter from `tensors`, after checking that all of them fit."""
        own = Wholes(self.layers).take(tensors, source, self.name)
        for parameter in self.parameters:
            parameter.assign(own[parameter.name])


def content(model: Base, path: str | Path, *, weights_only: bool = False) -> bytes:
    """What `save` or, with `weights_only`, `save_weights` puts into the file `path`."""
    refuse_unsaved(model)
    tensors = model.state_tensors()
    compiled = None
    if not weights_only:
        model.check_savable()
        compiled = _compiled(model)
        if compiled is not None:
            tensors.update(Wholes(model.layers).join(model.optimizer.state()))
    state = {
        "gpukit_version": __version__,
        "model": _described(model, weights_only),
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


def frozen(model: Base) -> dict[str, Any]:
    """What of `model` is frozen, in JSON's types: itself, layers, and parameters whose `trainable`
    is not what they were made with."""
    return {
        "model": not model.trainable,
        "layers": [layer.name for layer in model.every_layer() if not layer.trainable],
        "parameters": [p.name for p in model.parameters if p.trainable != p.learned],
    }


def freeze(model: Base, found: Mapping[str, Any]) -> None:
    """Give `model` what `frozen` said of it when it was saved."""
    model.trainable = not found["model"]
    for layer in model.every_layer():
        layer.trainable = layer.name not in found["layers"]
    for parameter in model.parameters:
        parameter.trainable = parameter.learned != (parameter.name in found["parameters"])


def _write(model: Base, path: str | Path, overwrite: bool, weights_only: bool) -> None:
    if not flag("overwrite", overwrite) and as_path("path", path).exists():
        raise CheckpointError(f"{path} exists; use overwrite=True, or another path")
    checkpoint.write_atomically(path, content(model, path, weights_only=weights_only))


def _described(model: Base, weights_only: bool) -> dict[str, Any]:
    """The model's configuration; parameters can be saved without one."""
    try:
        return model.get_config()
    except SettingError:
        if not weights_only:
            raise
        return {"class": model.kind, "name": model.name, "dtype": model.dtype.name}


def _compiled(model: Base) -> dict[str, Any] | None:
    """What `compile` chose, in JSON's types; None before it."""
    if model._optimizer is None:
        return None
    by_weight = model._weighted
    return {
        "optimizer": described(model.optimizer),
        "loss": None if model._loss is None else described(model.loss),
        "metrics": [described(m) for key, m in model._metrics.items() if key not in by_weight],
        "weighted_metrics": [described(m) for key, m in model._metrics.items() if key in by_weight],
    }


def _callbacks(model: Base) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What callbacks remember: those of the last `fit`, else what was loaded."""
    if model.callbacks is not None:
        return model.callbacks.state(), model.callbacks.arrays()
    return model.training_state.callbacks, model.training_state.callback_arrays


def load_into(model: Base, path: str | Path) -> None:
    """Take over the checkpoint at `path` into `model`.

    Raises CheckpointError, before anything is changed, where it does not belong to this model.
    """
    tensors, state = checkpoint.read(as_path("path", path))
    with reading(path):
        restore(model, tensors, state)


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
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


class Content:
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
        shapes = Wholes(model.layers).shapes
        for name, array in self.parameters.items():
            if name not in shapes:
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


def restore(model: Base, tensors: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
    """Overwrite `model` by a checkpoint's content, all of which is checked first."""
    content = Content(tensors, state)
    content.check(model)
    wholes = Wholes(model.layers)
    wholes.take(content.parameters, "it", model.name)
    optimizer = None
    compiled = state["compiled"]
    if compiled is not None and model._optimizer is not None:
        saved = optimizers.get(compiled["optimizer"])
        if type(saved) is type(model.optimizer):
            some = bool(state["model"].get("frozen", {}).get("parameters"))
            saved.load_state(wholes.cut(content.optimizer), some)
            optimizer = saved
    model.load_tensors(content.parameters, "it")
    if optimizer is not None:
        model._optimizer = optimizer
    model.context.seed, model.context.step = content.seed, content.step
    model.normalise = content.normalise
    model.class_names = content.class_names
    model.training_state = content.training
    model.callbacks = None
