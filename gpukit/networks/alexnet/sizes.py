"""AlexNet's layers: maps and units of a column, initialisers, normalisation and pooling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpukit import initializers
from gpukit.layers import Conv2D, Dense, LocalResponseNormalization, MaxPooling2D

INPUT_SIZE = 227  # pixels a side, in the paper
MAPS = {"conv1": 48, "conv2": 128, "conv3": 192, "conv4": 192, "conv5": 128}  # a column
UNITS = 2048  # of fc6 and fc7, a column
COLUMNS = "ab"
GAUSSIAN = initializers.RandomNormal(stddev=0.01)


@dataclass(frozen=True)
class Sizes:
    """Sizes, dropout rate and initialisers of all forms; `maps` and `units` are of a column."""

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
        """fc8, or its shard that scores `classes` of the classes."""
        return Dense(classes, kernel_initializer=self.kernels, name=name)


def norm(name: str, groups: int = 1) -> LocalResponseNormalization:
    # The paper's formula does not divide by the size: its alpha is 1e-4.
    return LocalResponseNormalization(5, alpha=5e-4, beta=0.75, k=2.0, groups=groups, name=name)


def pool(name: str) -> MaxPooling2D:
    return MaxPooling2D(3, 2, name=name)


def even(count: float) -> int:
    """The even number next to `count`, 2 at least."""
    return max(2, 2 * round(count / 2))
