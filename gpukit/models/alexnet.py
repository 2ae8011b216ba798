"""AlexNet: five convolutions, three fully connected layers, in two columns or in one.

Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks",
2012. Two columns (`a` and `b`) each have half of the maps and units. They see each other's values
before conv3 and at the fully connected layers, nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gpukit import initializers
from gpukit.core.config import number, show, whole
from gpukit.device import Device, get_device
from gpukit.errors import DeviceError, SettingError, ShapeError
from gpukit.layers import (
    Concatenate,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Input,
    Layer,
    LocalResponseNormalization,
    MaxPooling2D,
    Part,
    Softmax,
    ToDevice,
)
from gpukit.layers.symbolic import Symbolic
from gpukit.models.functional import Model

INPUT_SIZE = 227  # pixels a side, in the paper
SMALLEST = 67  # pixels a side: pool5 then has one window
MAPS = {"conv1": 48, "conv2": 128, "conv3": 192, "conv4": 192, "conv5": 128}  # a column
UNITS = 2048  # of fc6 and fc7, a column
COLUMNS = "ab"
GAUSSIAN = initializers.RandomNormal(stddev=0.01)


@dataclass(frozen=True)
class _Sizes:
    """What the forms have in common: maps and units of one column, classes, rates, first values."""

    maps: dict[str, int]
    units: int
    classes: int
    dropout: float
    first: initializers.Initializer
    kernels: initializers.Initializer
    biases: initializers.Initializer

    def conv(self, name: str, size: int, columns: int, **settings: Any) -> Conv2D:
        """conv1 … conv5 for `columns` columns at once, or for the column that ends its name."""
        layer = name.rstrip(COLUMNS)
        return Conv2D(
            self.maps[layer] * columns,
            size,
            activation="relu",
            kernel_initializer=self.first if layer == "conv1" else self.kernels,
            bias_initializer=self.biases if layer in ("conv2", "conv4", "conv5") else "zeros",
            name=name,
            **settings,
        )

    def dense(self, name: str, columns: int) -> Dense:
        """fc6 or fc7 for `columns` columns at once."""
        return Dense(
            self.units * columns,
            activation="relu",
            kernel_initializer=self.kernels,
            bias_initializer=self.biases,
            name=name,
        )

    def scores(self, name: str, classes: int) -> Dense:
        """fc8, or the part of it that scores `classes` of the classes."""
        return Dense(classes, kernel_initializer=self.kernels, name=name)


def alexnet(
    input_shape: Sequence[int] | None = None,
    classes: int = 1000,
    *,
    columns: int = 2,
    devices: Sequence[str | Device] | None = None,
    groups: bool = False,
    width: float = 1.0,
    input_size: int = INPUT_SIZE,
    dropout: float = 0.5,
    kernel_initializer: Any = GAUSSIAN,
    first_initializer: Any = None,
    bias_initializer: Any = "ones",
    device: str | Device | None = None,
    dtype: Any = "float32",
    seed: int | None = None,
) -> Model:
    """AlexNet for images (H, W, C) of at least 67×67 pixels; its output is a softmax (N, classes).

    - `columns=2`: the net of the paper, in which each column has 48, 128, 192, 192, 128 maps and
      2048, 2048 units; `devices` names a device for each column, the first of which takes the
      images and gives the output. Without it both are on `device`.
    - `columns=1, groups=True`: the same function on one device, by grouped convolutions. From one
      checkpoint or seed both have the same values.
    - `columns=1`: the simplified net that the lecture notes draw: twice the maps, every map of a
      layer connected to every map of the next, pooling before normalisation.

    `width` scales the maps and units of a column, each rounded to an even number. `input_shape`
    (H, W, C) is (input_size, input_size, 3) by default. `kernel_initializer`, Gaussian with
    deviation 0.01, is of all kernels but conv1's where there is a `first_initializer`;
    `bias_initializer` of conv2, conv4, conv5, fc6 and fc7, whose biases begin with one; those of
    the others begin with zero. `dropout` is the rate after fc6 and fc7. Raises SettingError,
    ShapeError, DeviceError.
    """
    if type(columns) is not int or columns not in (1, 2):
        raise SettingError(f"alexnet: columns={show(columns)}: use 1 or 2")
    if groups and columns == 2:
        raise SettingError(
            "alexnet: columns=2 with groups=True: two columns have no groups; use columns=1 for "
            "the grouped form on one device, or groups=False"
        )
    width = number("alexnet: width", width, above=0, high=8)
    sizes = _Sizes(
        {name: _even(maps * width) for name, maps in MAPS.items()},
        _even(UNITS * width),
        whole("alexnet: classes", classes, low=2),
        number("alexnet: dropout", dropout, low=0, below=1),
        initializers.get(kernel_initializer if first_initializer is None else first_initializer),
        initializers.get(kernel_initializer),
        initializers.get(bias_initializer),
    )
    places = _places(columns, devices, device)
    image = Input(_image_shape(input_shape, input_size), name="image")
    if columns == 2:
        scores = _two_columns(image, sizes, places)
    else:
        scores = _grouped(image, sizes) if groups else _simplified(image, sizes)
    outputs = Softmax(name="softmax")(scores)
    return Model(image, outputs, name="alexnet", device=places[0], dtype=dtype, seed=seed)


def _simplified(image: Symbolic, sizes: _Sizes) -> Symbolic:
    x = sizes.conv("conv1", 11, 2, strides=4)(image)
    x = _norm("norm1")(_pool("pool1")(x))
    x = sizes.conv("conv2", 5, 2, padding="same")(x)
    x = _norm("norm2")(_pool("pool2")(x))
    for name in ("conv3", "conv4", "conv5"):
        x = sizes.conv(name, 3, 2, padding="same")(x)
    return _dense_layers(_pool("pool5")(x), sizes)


def _grouped(image: Symbolic, sizes: _Sizes) -> Symbolic:
    x = sizes.conv("conv1", 11, 2, strides=4)(image)
    x = _pool("pool1")(_norm("norm1", 2)(x))
    x = sizes.conv("conv2", 5, 2, padding="same", groups=2)(x)
    x = _pool("pool2")(_norm("norm2", 2)(x))
    x = sizes.conv("conv3", 3, 2, padding="same")(x)
    for name in ("conv4", "conv5"):
        x = sizes.conv(name, 3, 2, padding="same", groups=2)(x)
    return _dense_layers(_pool("pool5")(x), sizes)


def _dense_layers(x: Symbolic, sizes: _Sizes) -> Symbolic:
    x = Flatten(name="flatten")(x)
    for digit in "67":
        x = sizes.dense(f"fc{digit}", 2)(x)
        x = Dropout(sizes.dropout, name=f"dropout{digit}")(x)
    return sizes.scores("fc8", sizes.classes)(x)


def _two_columns(image: Symbolic, sizes: _Sizes, places: Sequence[Device]) -> Symbolic:
    columns = _Columns(image, places)

    def conv(name: str, size: int, groups: int = 1, **settings: Any) -> int:
        of = 2 * sizes.maps[name]
        columns.each(name, of, lambda own: sizes.conv(own, size, 1, **settings), groups)
        return of

    of = conv("conv1", 11, strides=4)
    columns.each("norm1", of, _norm)
    columns.each("pool1", of, _pool)
    of = conv("conv2", 5, 2, padding="same")
    columns.each("norm2", of, _norm)
    columns.each("pool2", of, _pool)
    columns.exchange("pool2")
    conv("conv3", 3, padding="same")
    conv("conv4", 3, 2, padding="same")
    of = conv("conv5", 3, 2, padding="same")
    columns.each("pool5", of, _pool)
    columns.exchange("pool5")
    columns.share(Flatten(name="flatten"))
    for digit in "67":
        columns.each(f"fc{digit}", 2 * sizes.units, lambda own: sizes.dense(own, 1))
        columns.exchange(f"fc{digit}")
        columns.share(Dropout(sizes.dropout, name=f"dropout{digit}"))
    half = {"fc8a": (sizes.classes + 1) // 2, "fc8b": sizes.classes // 2}
    columns.each("fc8", sizes.classes, lambda own: sizes.scores(own, half[own]))
    return columns.joined("fc8", 0)


class _Columns:
    """Two columns while they grow: `x` is what each has computed so far."""

    def __init__(self, image: Symbolic, places: Sequence[Device]) -> None:
        self.places = places
        self.x = [image, image]
        self.x[1] = self.brought("image", 0, 1)

    def each(self, name: str, of: int, make: Callable[[str], Layer], groups: int = 1) -> None:
        """In both columns a layer of their own, `of` maps or units in all, a's before b's.

        `groups` are those of the layer's kernel in the grouped form.
        """
        first = 0
        for column, letter in enumerate(COLUMNS):
            layer = make(name + letter)
            layer.part = Part(name, first, of, groups)
            self.x[column] = layer(self.x[column])
            first += self.x[column].shape[-1] or 0

    def share(self, layer: Layer) -> None:
        """One layer for both, where both have all values: a Dropout has one mask for them."""
        self.x = [layer(x) for x in self.x]

    def exchange(self, name: str) -> None:
        """Give both columns the values of `name` of both."""
        self.x = [self.joined(name, column) for column in range(2)]

    def joined(self, name: str, target: int) -> Symbolic:
        """The values of both columns, a's before b's, in the column `target`."""
        both = [self.brought(name, source, target) for source in range(2)]
        return Concatenate(name=f"{name}_all_{COLUMNS[target]}")(both)

    def brought(self, name: str, source: int, target: int) -> Symbolic:
        """What the column `source` computed, in the column `target`."""
        if source == target:
            return self.x[source]
        crossing = f"{name}_{COLUMNS[source]}_to_{COLUMNS[target]}"
        return ToDevice(self.places[target], name=crossing, place=target)(self.x[source])


def _norm(name: str, groups: int = 1) -> LocalResponseNormalization:
    # The paper's formula does not divide by the size: its alpha is 1e-4.
    return LocalResponseNormalization(5, alpha=5e-4, beta=0.75, k=2.0, groups=groups, name=name)


def _pool(name: str) -> MaxPooling2D:
    return MaxPooling2D(3, 2, name=name)


def _even(count: float) -> int:
    """The even number next to `count`, 2 at least."""
    return max(2, 2 * round(count / 2))


def _image_shape(shape: Sequence[int] | None, size: int) -> tuple[int, ...]:
    size = whole("alexnet: input_size", size)
    if shape is None:
        shape = (size, size, 3)
    elif len(shape) != 3:
        raise ShapeError(f"alexnet: input_shape={tuple(shape)}: use (height, width, channels)")
    height, width, _ = shape
    if size not in (INPUT_SIZE, height) or size not in (INPUT_SIZE, width):
        raise SettingError(
            f"alexnet: input_shape={tuple(shape)} beside input_size={size}; leave out one of them"
        )
    if min(height, width) < SMALLEST:
        raise ShapeError(
            f"alexnet: images of {height}×{width} are too small; use {SMALLEST}×{SMALLEST} or "
            "larger"
        )
    return tuple(shape)


def _places(
    columns: int, devices: Sequence[str | Device] | None, device: str | Device | None
) -> list[Device]:
    """The device of each column."""
    if devices is None:
        return [get_device(device)] * columns
    names = [devices] if isinstance(devices, (str, Device)) else list(devices)
    if len(names) != columns:
        raise SettingError(
            f"alexnet: columns={columns} on {len(names)} device{'s' * (len(names) != 1)} "
            f"({', '.join(map(str, names)) or 'none'}); name one for each column, or the same "
            "one twice"
        )
    places = []
    for letter, name in zip(COLUMNS, names):
        try:
            places.append(get_device(name))
        except DeviceError as error:
            raise DeviceError(f"alexnet: column {letter}: {error}") from None
    if device is not None and get_device(device) is not places[0]:
        raise SettingError(
            f"alexnet: device={str(device)!r} and devices=({', '.join(map(str, names))}); leave "
            "out one of them"
        )
    return places
