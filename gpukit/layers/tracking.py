"""Finds what a user's layer holds: layers, models and parameters in its attributes.

Attributes, lists, tuples and dicts are searched, one in the other. What is found is built with the
layer, on its device, and named, trained, counted and saved with it. To learn the shapes of the
inputs of inner layers, and of the output, `call` is run on one sample of zeros.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from gpukit.autograd import Parameter, Tensor, no_grad
from gpukit.autograd.tape import caller
from gpukit.core.blocks import within
from gpukit.device import get_device, to_host
from gpukit.errors import SettingError
from gpukit.layers.batch_shape import Shape
from gpukit.layers.budget import budget_kept

Layer = Any  # gpukit.layers.base.Layer, which imports this file
# Of attributes that every layer has, those that hold what is not its own.
_NOT_OWN = ("context", "shard", "_parameters", "_activity_losses", "_inner")
_SHAPES = ("output_shape", "output_shape_of_many")
_SIZES = (32, 48)  # stand for lengths that are not known
Held = tuple[str, Any]  # the place, as "norms_0", and what is there


def held(layer: Layer) -> list[Held]:
    """Layers, models and leaf Tensors that `layer` holds in its attributes, each once."""
    with layer.naming_errors():
        return held_by(layer)


def held_by(owner: Any) -> list[Held]:
    """`held` of a layer or a model."""
    own = {name: value for name, value in vars(owner).items() if name not in _NOT_OWN}
    return [*_search("", own, {id(owner)})]


def _search(place: str, value: Any, seen: set[int]) -> Iterator[Held]:
    if id(value) in seen:
        return
    if _is_layer(value) or _is_model(value) or isinstance(value, Tensor):
        seen.add(id(value))
        if not isinstance(value, Tensor) or value.is_leaf or isinstance(value, Parameter):
            yield place, value
        return
    if isinstance(value, (set, frozenset)):
        if any(_is_layer(v) or _is_model(v) or isinstance(v, Tensor) for v in value):
            raise SettingError(
                f"its attribute {place!r} is a set, which has no order that a file could keep; "
                "use a list or a dict"
            )
        return
    entries: Any = ()
    if isinstance(value, Mapping):
        entries = value.items()
    elif isinstance(value, (list, tuple)):
        entries = enumerate(value)
    if entries:
        seen.add(id(value))
        for key, entry in [*entries]:
            yield from _search(f"{place}_{key}" if place else str(key), entry, seen)


def _is_layer(value: Any) -> bool:
    return hasattr(value, "auto_named") and hasattr(value, "create_parameters")


def _is_model(value: Any) -> bool:
    # Networks stand above layers, which cannot import them.
    return hasattr(value, "layers") and hasattr(value, "graph") and not isinstance(value, type)


def inner_layers(layer: Layer) -> list[Layer]:
    """The layers that `layer` holds directly, those of models that it holds among them."""
    found: list[Layer] = []
    for _, value in held(layer):
        if _is_model(value):
            found += value.layers
        elif _is_layer(value):
            found.append(value)
    return found


def check_held(layer: Layer, outer: Any) -> None:
    """Refuse to build `layer` in the call of a user's layer `outer` that does not hold it."""
    if not getattr(outer, "users", False) or any(layer is one for one in outer.with_inner()):
        return
    outer.name_error(
        SettingError(
            f"its call uses {layer.label}, which it does not hold, so that no model would train or "
            "save it; before the first call, put it in an attribute, a list, a tuple or a dict"
        )
    )


def take_in(layer: Layer) -> None:
    """Give what `layer` holds its name, device, dtype and random stream, before it is built."""
    taken: dict[str, int] = {}
    for place, value in held(layer):
        if isinstance(value, Parameter):
            _take_parameter(layer, place, value)
        elif isinstance(value, Tensor):
            raise SettingError(
                f"its attribute {place!r} is a Tensor that requires a gradient, which no model "
                f"would train or save; make it with self.add_parameter({place!r}, shape, "
                "initializer) in create_parameters, or as a gpukit.Parameter"
            )
        else:
            for short, inner in _members(layer, place, value):
                _take_layer(layer, short, inner, taken)


def _members(layer: Layer, place: str, value: Any) -> list[tuple[str, Layer]]:
    """The layers of what is held at `place`, with their names in `layer`."""
    if not _is_model(value):
        return [(place if value.auto_named else value.name, value)]
    if not any(inner.built for inner in value.layers):
        value.device, value.dtype = layer.device, layer.parameter_dtype
    return [(f"{place}/{inner.name}", inner) for inner in value.layers]


def _take_parameter(layer: Layer, place: str, parameter: Parameter) -> None:
    if any(parameter is own for own in layer._parameters.values()):
        return
    if place in layer._parameters:
        raise SettingError(f"has two parameters called {place!r}; rename the attribute")
    assert layer.device is not None
    if "/" not in parameter.name:
        parameter.name = f"{layer.name}/{place}"
    if parameter.device is not layer.device or parameter.dtype != layer.parameter_dtype:
        values = to_host(parameter.array).astype(layer.parameter_dtype)
        parameter.move(layer.device.asarray(values))
    if not layer.trainable:
        parameter.trainable = False
    layer._parameters[place] = parameter


def _take_layer(layer: Layer, short: str, inner: Layer, taken: dict[str, int]) -> None:
    if inner.built and inner.device is not layer.device:
        raise SettingError(f"is on {layer.device}, its {inner.label} on {inner.device}; use one")
    if not inner.within:
        inner.rename(f"{layer.name}/{short}")
        inner.within = True
    if taken.setdefault(inner.name, id(inner)) != id(inner):
        raise SettingError(f"holds two layers named {short!r}; rename one")
    if layer.context is not None and inner.context is not layer.context:
        for one in inner.with_inner():
            one.join_context(layer.context)
    if not layer.trainable:
        inner.trainable = False


def build_inner(layer: Layer, input_shape: Any) -> None:
    """Build what `layer` holds, by running its `call` on a sample of zeros where there is need."""
    take_in(layer)
    if not all(inner.built for inner in layer.with_inner()[1:]):
        _run(layer, input_shape, _SIZES[0])
        take_in(layer)  # what `call` made at its first run


def infers_shape(layer: Layer) -> bool:
    """Whether only running `call` says the shape of its output: it holds layers, and has no
    `output_shape` of its own."""
    defined = [name for cls in type(layer).__mro__ for name in vars(cls) if name in _SHAPES]
    return len(defined) == len(_SHAPES) and len(layer.with_inner()) > 1  # the base's alone


def inferred_shape(layer: Layer, input_shape: Any) -> Shape:
    """The shape of the output for `input_shape`: what changes with unknown lengths is None."""
    one = layer
    with budget_kept():
        if not layer.built:
            one = copy.deepcopy(layer)
            one.device, one.context = get_device("cpu"), None
            for inner in one.with_inner()[1:]:
                inner.context = None
            one.prepare_parameters(input_shape, None, None)
            take_in(one)
        first, second = (tuple(_run(one, input_shape, size).shape) for size in _SIZES)
    return (None, *(a if a == b else None for a, b in zip(first[1:], second[1:])))


def _run(layer: Layer, input_shape: Any, unknown: int) -> Any:
    """The output of `call` for one sample of zeros."""
    shapes = input_shape if isinstance(input_shape, list) else [input_shape]
    assert layer.device is not None
    with layer.device.current(), no_grad(), within(caller, layer):
        zeros = [
            Tensor.wrap(
                layer.device.zeros((1, *(unknown if n is None else n for n in s[1:])),
                                   layer.parameter_dtype)
            )
            for s in shapes
        ]  # fmt: skip
        outputs = layer.call(zeros if isinstance(input_shape, list) else zeros[0], False)
    if not hasattr(outputs, "shape"):
        raise SettingError(f"call returned {type(outputs).__name__}; return an array or a Tensor")
    return outputs if isinstance(outputs, Tensor) else np.asarray(outputs)
