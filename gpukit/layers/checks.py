"""Checks of what users give to layers: shapes, dtypes, and methods written as for Keras."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from gpukit.core.config import show, whole
from gpukit.errors import DTypeError, SettingError, ShapeError
from gpukit.layers.batch_shape import Shape, show_shape

_FLOATS = ("float32", "float64", "float16")


def refuse_keras_methods(cls: type) -> None:
    """Say how a layer of one's own is written here, where it is written as for Keras."""
    if "build" in vars(cls) and not _takes(vars(cls)["build"], 5):
        raise SettingError(
            f"{cls.__name__}: make parameters in create_parameters(self, input_shape), by "
            "self.add_parameter(name, shape, initializer), not in build"
        )
    if "call" in vars(cls) and not _takes(vars(cls)["call"], 3):
        raise SettingError(f"{cls.__name__}: call needs all of (self, inputs, training)")


def _takes(method: Any, arguments: int) -> bool:
    try:
        inspect.signature(method).bind(*range(arguments))
    except TypeError:
        return False
    return True


def shape_of(array: Any) -> tuple[int, ...]:
    shape = getattr(array, "shape", None)
    if shape is None:
        raise DTypeError(
            f"got a {type(array).__name__} as input; pass a NumPy array, a Tensor or an Input"
        )
    return tuple(shape)


def float_name(dtype: Any) -> str:
    try:
        name = np.dtype(dtype).name
    except (TypeError, ValueError):
        name = ""
    if name not in _FLOATS:
        raise DTypeError(f"dtype={show(dtype)}: use {', '.join(_FLOATS)}")
    return name


def sample_shape(shape: Any) -> tuple[int | None, ...]:
    if isinstance(shape, (int, np.integer)):
        shape = (shape,)
    if not isinstance(shape, (tuple, list)):
        raise SettingError(f"input_shape={show(shape)}: use a tuple without the batch, (28, 28, 1)")
    return tuple(None if n is None else whole("input_shape", n) for n in shape)


def check_channels(shape: Shape, channels: int) -> None:
    """Refuse inputs of other channels than those that a layer was built for."""
    if not shape or shape[-1] != channels:
        raise ShapeError(
            f"was built for inputs (N, …, {channels}), got {show_shape(shape)}; give it "
            f"inputs of {channels} channels or build another layer"
        )


def way_out(shape: Shape) -> str:
    """How to bring an input of another rank to images (N, H, W, C)."""
    known = shape[1:]
    if len(shape) == 3:
        return f"add a Reshape({(*known, 1)}) layer, or a batch axis to a single image with x[None]"
    if len(shape) == 2 and known[0] is not None:
        for channels in (1, 3):
            side = round((known[0] / channels) ** 0.5)
            if side * side * channels == known[0]:
                return f"add a Reshape({(side, side, channels)}) layer"
        return f"add a Reshape layer that makes (H, W, C) of the {known[0]} values"
    return "reshape the input to a batch of images"
