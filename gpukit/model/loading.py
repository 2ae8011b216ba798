"""Models made of descriptions: `load_model` of a checkpoint, `clone_model` of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from gpukit.core import registry
from gpukit.core.config import flag, show
from gpukit.core.config import path as as_path
from gpukit.device import Device, get_device
from gpukit.errors import CheckpointError, SettingError
from gpukit.layers.budget import parameter_budget
from gpukit.model.functional import Model
from gpukit.model.saving import Base, Content, freeze, reading, restore
from gpukit.model.sequential import Sequential
from gpukit.training import checkpoint

M = TypeVar("M", bound=Base)

_KINDS: dict[str, type[Sequential] | type[Model]] = {c.kind: c for c in (Sequential, Model)}


def load_model(
    path: str | Path,
    device: str | Device | None = None,
    devices: Sequence[str | Device] | None = None,
    *,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
) -> Sequential | Model:
    """The model in the checkpoint at `path`, ready to train on: on `device`, or spread again.

    `devices` are as many as the model has columns, whatever devices it was on when it was saved.
    `custom_objects` are classes and functions by the names that the file has for them; what is
    registered needs none. With `compile` False the optimiser, the loss and metrics are left out.
    Nothing is ever executed from a file, so `safe_mode` is always True. Raises CheckpointError for
    a file that is missing, damaged or not a gpukit model.
    """
    if not flag("safe_mode", safe_mode):
        raise SettingError(
            "load_model: safe_mode=False: no file of gpukit holds code; give functions by "
            "custom_objects={name: function}"
        )
    with registry.custom_objects(custom_objects):
        return _load(path, device, devices, flag("compile", compile))


def _load(
    path: str | Path,
    device: str | Device | None,
    devices: Sequence[str | Device] | None,
    compiles: bool,
) -> Sequential | Model:
    tensors, state = checkpoint.read(as_path("path", path))
    with reading(path):
        description = state["model"]
        if "structure" not in description:
            raise CheckpointError(
                f"{path} holds parameters alone; build the model and call load_weights"
            )
        kind = _KINDS[description["class"]]
        places = kind.places(description["structure"])
    chosen = _devices(path, places, device, devices)
    with reading(path):
        # A description that asks for more values than the file has is wrong, and may ask for more
        # than there is memory.
        with parameter_budget(sum(array.size for array in tensors.values())):
            model = kind.from_structure(
                description["structure"],
                name=str(description["name"]),
                dtype=description["dtype"],
                devices=chosen,
                seed=Content(tensors, state).seed,
            )
        if state["compiled"] is not None and compiles:
            compiled = state["compiled"]
            model.compile(
                compiled["optimizer"],
                compiled["loss"],
                compiled["metrics"],
                weighted_metrics=compiled.get("weighted_metrics"),
            )
        restore(model, tensors, state)
        if "frozen" in description:
            freeze(model, description["frozen"])
    return model


def clone_model(model: M) -> M:
    """A model of the same layers and settings, with new first values and not compiled.

    Layers are made by `from_config`, those of users too, registered or not.
    """
    with registry.unregistered() as found:
        config = model.get_config()
    return type(model).from_config(config, {name: own.member for name, own in found.items()})


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
