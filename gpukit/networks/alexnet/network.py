"""AlexNet: five convolutions, three fully connected layers, in two columns or in one.

Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks",
2012. Two columns (`a` and `b`) each have half of the maps and units. They see each other's values
before conv3 and at the fully connected layers, nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpukit import initializers
from gpukit.core.config import number, show, whole
from gpukit.device import Device, get_device
from gpukit.errors import DeviceError, SettingError, ShapeError
from gpukit.layers import Dropout, Flatten, Input, Softmax
from gpukit.layers.symbolic import Symbolic
from gpukit.model.functional import Model
from gpukit.networks.alexnet.columns import two_columns
from gpukit.networks.alexnet.sizes import (
    COLUMNS,
    GAUSSIAN,
    INPUT_SIZE,
    MAPS,
    UNITS,
    Sizes,
    even,
    norm,
    pool,
)

SMALLEST = 67  # pixels a side: pool5 then has one window


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
    sizes = Sizes(
        {name: even(maps * width) for name, maps in MAPS.items()},
        even(UNITS * width),
        whole("alexnet: classes", classes, low=2),
        number("alexnet: dropout", dropout, low=0, below=1),
        initializers.get(kernel_initializer if first_initializer is None else first_initializer),
        initializers.get(kernel_initializer),
        initializers.get(bias_initializer),
    )
    used = _devices(columns, devices, device)
    image = Input(_image_shape(input_shape, input_size), name="image")
    crossings: dict[str, int] = {}
    if columns == 2:
        scores, crossings = two_columns(image, sizes, used)
    else:
        scores = _grouped(image, sizes) if groups else _simplified(image, sizes)
    outputs = Softmax(name="softmax")(scores)
    return Model(
        image, outputs, "alexnet", device=used[0], dtype=dtype, seed=seed, places=crossings
    )


def _simplified(image: Symbolic, sizes: Sizes) -> Symbolic:
    x = sizes.conv("conv1", 11, 2, strides=4)(image)
    x = norm("norm1")(pool("pool1")(x))
    x = sizes.conv("conv2", 5, 2, padding="same")(x)
    x = norm("norm2")(pool("pool2")(x))
    for name in ("conv3", "conv4", "conv5"):
        x = sizes.conv(name, 3, 2, padding="same")(x)
    return _dense_layers(pool("pool5")(x), sizes)


def _grouped(image: Symbolic, sizes: Sizes) -> Symbolic:
    x = sizes.conv("conv1", 11, 2, strides=4)(image)
    x = pool("pool1")(norm("norm1", 2)(x))
    x = sizes.conv("conv2", 5, 2, padding="same", groups=2)(x)
    x = pool("pool2")(norm("norm2", 2)(x))
    x = sizes.conv("conv3", 3, 2, padding="same")(x)
    for name in ("conv4", "conv5"):
        x = sizes.conv(name, 3, 2, padding="same", groups=2)(x)
    return _dense_layers(pool("pool5")(x), sizes)


def _dense_layers(x: Symbolic, sizes: Sizes) -> Symbolic:
    x = Flatten(name="flatten")(x)
    for digit in "67":
        x = sizes.dense(f"fc{digit}", 2)(x)
        x = Dropout(sizes.dropout, name=f"dropout{digit}")(x)
    return sizes.scores("fc8", sizes.classes)(x)


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


def _devices(
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
