"""Layers that change images at random in training, and pass them on at test time.

What is drawn for an image depends on (seed, layer, step, place in the batch) alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from gpukit import ops
from gpukit.core.config import extends, number, show, whole
from gpukit.data.resizing import INTERPOLATIONS
from gpukit.errors import SettingError
from gpukit.layers.base import Layer, LayerOptions, register
from gpukit.layers.batch_shape import Shape
from gpukit.layers.preprocessing import Images, check_last, choice, resized
from gpukit.layers.sampling import FILL_MODES, sample, uniforms

Factor = float | Sequence[float]
_MODES = ("horizontal", "vertical", "horizontal_and_vertical")


def _range(name: str, factor: Any, low: float, high: float) -> tuple[float, float]:
    """`factor` as Keras takes it: f is (−f, f), or a pair."""
    if isinstance(factor, (list, tuple)) and len(factor) == 2:
        first, last = (number(name, value, low=low, high=high) for value in factor)
    else:
        last = number(name, factor, low=max(low, 0.0), high=high)
        first = max(-last, low)
    if first > last:
        raise SettingError(f"{name}={show(factor)}: give the lower bound first")
    return first, last


def _levels(value_range: Any) -> tuple[float, float]:
    low, high = _range("value_range", value_range, -np.inf, np.inf)
    if low == high or not isinstance(value_range, (list, tuple)):
        raise SettingError(f"value_range={show(value_range)}: use (low, high), as (0, 255)")
    return low, high


class RandomImages(Images):
    """Base: draws for each image, in training only."""

    seed: int | None

    def _seed(self, seed: int | None) -> None:
        self.seed = None if seed is None else whole("seed", seed, low=0)

    def _draw(self, inputs: Any, columns: int = 1) -> NDArray[np.float64]:
        """(N, columns) numbers from 0 to below 1 for this step."""
        key = self.random_key()
        if self.seed is not None:
            key["seed"] = self.seed
        return uniforms(key, inputs.shape[0], columns)

    def _beside(self, values: NDArray[np.float64], inputs: Any) -> Any:
        """A number for each image, (N, 1, 1, 1), on the layer's device."""
        assert self.device is not None
        return self.device.asarray(values.reshape(-1, 1, 1, 1).astype(inputs.dtype))

    def call(self, inputs: Any, training: bool) -> Any:
        return self.change(inputs) if training and inputs.shape[0] else inputs

    def change(self, inputs: Any) -> Any:
        """The images of a training step."""
        raise NotImplementedError


@register
class RandomFlip(RandomImages):
    """Mirrors each image with probability ½ along each axis of `mode`."""

    @extends(Layer)
    def __init__(
        self,
        mode: str = "horizontal_and_vertical",
        seed: int | None = None,
        data_format: str | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.mode = choice("mode", mode, _MODES)
        self._seed(seed)
        check_last(data_format)
        self.data_format = data_format

    def change(self, inputs: Any) -> Any:
        assert self.device is not None
        drawn = self._draw(inputs, 2) < 0.5
        places: list[NDArray[np.float64]] = []
        for axis, word in enumerate(("vertical", "horizontal")):
            place = np.arange(inputs.shape[axis + 1], dtype=np.float64)
            flips = drawn[:, axis, np.newaxis] & (word in self.mode)
            places.append(np.where(flips, place[::-1], place))
        return sample(
            inputs, places[0][:, :, np.newaxis], places[1][:, np.newaxis], device=self.device
        )


@register
class RandomCrop(RandomImages):
    """A window of height×width at a random place of each image.

    At test time, and of smaller images, the largest central window of that aspect ratio, resized.
    """

    @extends(Layer)
    def __init__(
        self,
        height: int,
        width: int,
        seed: int | None = None,
        data_format: str | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.height, self.width = whole("height", height), whole("width", width)
        self._seed(seed)
        check_last(data_format)
        self.data_format = data_format

    def output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], self.height, self.width, input_shape[3])

    def call(self, inputs: Any, training: bool) -> Any:
        assert self.device is not None
        room = np.array(inputs.shape[1:3]) - (self.height, self.width)
        if not training or room.min() < 0 or not inputs.shape[0]:
            return resized(inputs, (self.height, self.width), "bilinear", True, self.device)
        first = np.floor(self._draw(inputs, 2) * (room + 1))
        rows = first[:, :1] + np.arange(self.height, dtype=np.float64)
        columns = first[:, 1:] + np.arange(self.width, dtype=np.float64)
        return sample(inputs, rows[:, :, np.newaxis], columns[:, np.newaxis], device=self.device)


class MovedOptions(LayerOptions, total=False):
    """What layers that read each image at other places take beside their factors."""

    fill_mode: str
    interpolation: str
    seed: int | None
    fill_value: float
    data_format: str | None


class _Moved(RandomImages):
    """Base of layers that read each image at other places."""

    @extends(Layer)
    def __init__(
        self,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self._seed(seed)
        self.fill_mode = choice("fill_mode", fill_mode, FILL_MODES)
        self.interpolation = choice("interpolation", interpolation, INTERPOLATIONS)
        self.fill_value = number("fill_value", fill_value)
        check_last(data_format)
        self.data_format = data_format

    def _read(self, inputs: Any, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> Any:
        assert self.device is not None
        return sample(
            inputs, rows, columns, device=self.device, interpolation=self.interpolation,
            fill_mode=self.fill_mode, fill_value=self.fill_value,
        )  # fmt: skip


@register
class RandomTranslation(_Moved):
    """Shifts each image down by a share of its height and right by one of its width.

    A factor f draws the share from −f to f, a pair (low, high) between those.
    """

    @extends(_Moved)
    def __init__(
        self,
        height_factor: Factor,
        width_factor: Factor,
        **options: Unpack[MovedOptions],
    ) -> None:
        super().__init__(**options)
        self.height_factor = _range("height_factor", height_factor, -1, 1)
        self.width_factor = _range("width_factor", width_factor, -1, 1)

    def change(self, inputs: Any) -> Any:
        low, high = np.array([self.height_factor, self.width_factor]).T
        size = np.array(inputs.shape[1:3])
        shift = (low + self._draw(inputs, 2) * (high - low)) * size
        rows = np.arange(size[0]) - shift[:, :1]
        columns = np.arange(size[1]) - shift[:, 1:]
        return self._read(inputs, rows[:, :, np.newaxis], columns[:, np.newaxis])


@register
class RandomZoom(_Moved):
    """Zooms each image about its centre: out by a positive factor, in by a negative one.

    A factor f draws from −f to f, a pair between its numbers. Without `width_factor` the aspect
    ratio is kept.
    """

    @extends(_Moved)
    def __init__(
        self,
        height_factor: Factor,
        width_factor: Factor | None = None,
        **options: Unpack[MovedOptions],
    ) -> None:
        super().__init__(**options)
        self.height_factor = _range("height_factor", height_factor, -1, np.inf)
        self.width_factor = None
        if width_factor is not None:
            self.width_factor = _range("width_factor", width_factor, -1, np.inf)

    def change(self, inputs: Any) -> Any:
        drawn = self._draw(inputs, 2)
        if self.width_factor is None:
            drawn[:, 1] = drawn[:, 0]
        low, high = np.array([self.height_factor, self.width_factor or self.height_factor]).T
        zoom = 1 + low + drawn * (high - low)
        places = []
        for axis in (0, 1):
            middle = (inputs.shape[axis + 1] - 1) / 2
            place = np.arange(inputs.shape[axis + 1]) - middle
            places.append(middle + zoom[:, axis : axis + 1] * place)
        return self._read(inputs, places[0][:, :, np.newaxis], places[1][:, np.newaxis])


@register
class RandomRotation(_Moved):
    """Turns each image about its centre, counter-clockwise by a share of a full turn.

    A factor f draws the share from −f to f, a pair (low, high) between those.
    """

    @extends(_Moved)
    def __init__(
        self,
        factor: Factor,
        **options: Unpack[MovedOptions],
    ) -> None:
        super().__init__(**options)
        self.factor = _range("factor", factor, -1, 1)

    def change(self, inputs: Any) -> Any:
        low, high = self.factor
        angle = 2 * np.pi * (low + self._draw(inputs) * (high - low))[:, :, np.newaxis]
        middle = (np.array(inputs.shape[1:3]) - 1) / 2
        y = (np.arange(inputs.shape[1]) - middle[0])[:, np.newaxis]
        x = (np.arange(inputs.shape[2]) - middle[1])[np.newaxis]
        cosine, sine = np.cos(angle), np.sin(angle)
        rows, columns = sine * x + cosine * y, cosine * x - sine * y
        return self._read(inputs, middle[0] + rows, middle[1] + columns)


@register
class RandomBrightness(RandomImages):
    """Adds one number to each image: a share of `value_range`, to which the sum is clipped.

    A factor f draws the share from −f to f, a pair (low, high) between those.
    """

    @extends(Layer)
    def __init__(
        self,
        factor: Factor,
        value_range: Sequence[float] = (0, 255),
        seed: int | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.factor = _range("factor", factor, -1, 1)
        self.value_range = _levels(value_range)
        self.takes_levels = self.value_range[1] > 1
        self._seed(seed)

    def change(self, inputs: Any) -> Any:
        low, high = self.factor
        black, white = self.value_range
        added = (low + self._draw(inputs) * (high - low)) * (white - black)
        return _clipped(ops.add(inputs, self._beside(added, inputs)), black, white)


@register
class RandomContrast(RandomImages):
    """Multiplies the distance of each pixel from its channel's mean in the image; clips.

    A factor f draws the multiplier from 1 − f to 1 + f, a pair (a, b) from 1 − a to 1 + b.
    """

    @extends(Layer)
    def __init__(
        self,
        factor: Factor,
        value_range: Sequence[float] = (0, 255),
        seed: int | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        pair = factor if isinstance(factor, (list, tuple)) else (factor, factor)
        if len(pair) != 2:
            raise SettingError(f"factor={show(factor)}: use a number or a pair")
        self.factor = (number("factor", pair[0], low=0, high=1), number("factor", pair[1], low=0))
        self.value_range = _levels(value_range)
        self.takes_levels = self.value_range[1] > 1
        self._seed(seed)

    def change(self, inputs: Any) -> Any:
        low, high = 1 - self.factor[0], 1 + self.factor[1]
        factor = self._beside(low + self._draw(inputs) * (high - low), inputs)
        mean = ops.mean(inputs, axis=(1, 2), keepdims=True)
        spread = ops.multiply(ops.subtract(inputs, mean), factor)
        return _clipped(ops.add(spread, mean), *self.value_range)


def _clipped(x: Any, low: float, high: float) -> Any:
    return ops.minimum(ops.maximum(x, low), high)
