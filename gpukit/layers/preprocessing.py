"""Layers that bring images to a scale and a size, in training as at test time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np

from gpukit import ops
from gpukit.core.config import extends, flag, number, show, whole
from gpukit.data.resizing import INTERPOLATIONS, central, sources
from gpukit.device import Device
from gpukit.errors import SettingError, ShapeError
from gpukit.layers.base import Layer, LayerOptions, register
from gpukit.layers.batch_shape import Shape


def check_last(data_format: str | None) -> None:
    """Refuse other layouts than (N, H, W, C)."""
    last = isinstance(data_format, str) and data_format == "channels_last"
    if data_format is not None and not last:
        raise SettingError(f"data_format={show(data_format)}: channels are last")


def choice(name: str, value: Any, known: Sequence[str]) -> str:
    """`value`, one of `known`."""
    if not isinstance(value, str) or value not in known:
        raise SettingError(f"{name}={show(value)}: use {', '.join(map(repr, known))}")
    return value


def resized(x: Any, size: tuple[int, int], interpolation: str, crop: bool, device: Device) -> Any:
    """x (N, H, W, C) → (N, *size, C) without antialiasing; with `crop`, of the central window."""
    if crop:
        rows, columns = central(x.shape[1], x.shape[2], size)
        x = ops.index(x, key=(slice(None), rows, columns))
    for axis in (1, 2):
        low, high, weight = sources(size[axis - 1], x.shape[axis], interpolation)
        before = (slice(None),) * axis
        first = ops.index(x, key=(*before, low))
        if weight.any():
            # A number for each row or column, beside the axes that follow.
            share = weight.reshape(-1, *(1,) * (3 - axis)).astype(x.dtype)
            second = ops.index(x, key=(*before, high))
            first = ops.add(
                ops.multiply(first, device.asarray(1 - share)),
                ops.multiply(second, device.asarray(share)),
            )
        x = first
    return x


@register
class Rescaling(Layer):
    """x·scale + offset, each a number or one a channel.

    A model whose images are uint8 gives this layer their levels 0 to 255, unless `model.normalise`
    is set; without such a layer they come as 0 to 1.
    """

    takes_levels = True

    @extends(Layer)
    def __init__(
        self,
        scale: float | Sequence[float],
        offset: float | Sequence[float] = 0.0,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.scale, self.offset = _numbers("scale", scale), _numbers("offset", offset)

    def output_shape(self, input_shape: Shape) -> Shape:
        for name, values in (("scale", self.scale), ("offset", self.offset)):
            if isinstance(values, tuple) and input_shape[-1] not in (None, len(values)):
                raise ShapeError(
                    f"{name} has {len(values)} numbers for {input_shape[-1]} channels; give one "
                    "for each, or a single one"
                )
        return input_shape

    def call(self, inputs: Any, training: bool) -> Any:
        scaled = ops.multiply(inputs, self._on_device(self.scale, inputs))
        return ops.add(scaled, self._on_device(self.offset, inputs)) if self.offset else scaled

    def _on_device(self, values: float | tuple[float, ...], like: Any) -> Any:
        if isinstance(values, float):
            return values
        assert self.device is not None
        return self.device.asarray(np.array(values, like.dtype))


def _numbers(name: str, value: Any) -> float | tuple[float, ...]:
    if isinstance(value, (list, tuple, np.ndarray)):
        return tuple(number(name, each) for each in value)
    return number(name, value)


class Images(Layer):
    """Base of layers on images (N, H, W, C)."""

    rank = 4
    axes = "(N, H, W, C)"


class _Sized(Images):
    """Images of height×width come out."""

    height: int
    width: int

    def output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], self.height, self.width, input_shape[3])


@register
class Resizing(_Sized):
    """Resizes images to height×width, as Keras does without antialiasing."""

    @extends(Layer)
    def __init__(
        self,
        height: int,
        width: int,
        interpolation: str = "bilinear",
        crop_to_aspect_ratio: bool = False,
        pad_to_aspect_ratio: bool = False,
        antialias: bool = False,
        data_format: str | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.height, self.width = whole("height", height), whole("width", width)
        self.interpolation = choice("interpolation", interpolation, INTERPOLATIONS)
        self.crop_to_aspect_ratio = flag("crop_to_aspect_ratio", crop_to_aspect_ratio)
        for name, value in (("pad_to_aspect_ratio", pad_to_aspect_ratio), ("antialias", antialias)):
            if value:
                raise SettingError(f"{name}={show(value)} is not supported; leave it out")
        check_last(data_format)
        self.pad_to_aspect_ratio, self.antialias = False, False
        self.data_format = data_format

    def call(self, inputs: Any, training: bool) -> Any:
        assert self.device is not None
        size, crop = (self.height, self.width), self.crop_to_aspect_ratio
        return resized(inputs, size, self.interpolation, crop, self.device)


@register
class CenterCrop(_Sized):
    """The central height×width pixels; smaller images are resized, their aspect ratio kept."""

    @extends(Layer)
    def __init__(
        self,
        height: int,
        width: int,
        data_format: str | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.height, self.width = whole("height", height), whole("width", width)
        check_last(data_format)
        self.data_format = data_format

    def call(self, inputs: Any, training: bool) -> Any:
        assert self.device is not None
        height, width = inputs.shape[1] - self.height, inputs.shape[2] - self.width
        if min(height, width) < 0:
            return resized(inputs, (self.height, self.width), "bilinear", True, self.device)
        top, left = height // 2, width // 2
        rows, columns = slice(top, top + self.height), slice(left, left + self.width)
        return ops.index(inputs, key=(slice(None), rows, columns))
