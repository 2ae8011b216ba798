"""LeNet-5: two convolutions, two poolings, three fully connected layers.

LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998,
in the form that is taught today: ReLU, max pooling, every map of C3 connected to every map of S2,
and 28×28 images, which C1 pads by two pixels where the paper had 32×32 ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpukit.core.config import show, whole
from gpukit.device import Device
from gpukit.errors import ShapeError
from gpukit.layers import Conv2D, Dense, Flatten, MaxPooling2D
from gpukit.model.sequential import Sequential


def lenet5(
    input_shape: Sequence[int] = (28, 28, 1),
    classes: int = 10,
    *,
    activation: str = "relu",
    device: str | Device | None = None,
    dtype: Any = "float32",
    seed: int | None = None,
) -> Sequential:
    """LeNet-5 for images (H, W, C) of at least 12×12 pixels; its output is a softmax (N, classes).

    Layers, named as in the paper: C1 6 maps 5×5, S2, C3 16 maps 5×5, S4, F5 120, F6 84, output.
    """
    if not isinstance(input_shape, (tuple, list)) or len(input_shape) != 3:
        raise ShapeError(f"lenet5: input_shape={show(input_shape)}: use (H, W, C)")
    height, width, _ = shape = tuple(whole("lenet5: input_shape", n) for n in input_shape)
    if min(height, width) < 12:
        raise ShapeError(f"lenet5: images of {height}×{width} are too small; use 12×12 or larger")
    return Sequential(
        [
            Conv2D(6, 5, padding="same", activation=activation, name="c1", input_shape=shape),
            MaxPooling2D(name="s2"),
            Conv2D(16, 5, activation=activation, name="c3"),
            MaxPooling2D(name="s4"),
            Flatten(name="flatten"),
            Dense(120, activation=activation, name="f5"),
            Dense(84, activation=activation, name="f6"),
            Dense(classes, activation="softmax", name="output"),
        ],
        name="lenet5",
        device=device,
        dtype=dtype,
        seed=seed,
    )
