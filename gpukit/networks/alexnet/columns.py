"""AlexNet in two columns: the layers of each, and where values cross between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gpukit.device import Device
from gpukit.layers import Concatenate, Dropout, Flatten, Layer, Shard, ToDevice
from gpukit.layers.symbolic import Symbolic
from gpukit.networks.alexnet.sizes import COLUMNS, Sizes, norm, pool


def two_columns(
    image: Symbolic, sizes: Sizes, devices: Sequence[Device]
) -> tuple[Symbolic, dict[str, int]]:
    """(scores, number of the column to which each crossing goes, by its name)."""
    columns = _Columns(image, devices)

    def conv(name: str, size: int, groups: int = 1, **settings: Any) -> int:
        of = 2 * sizes.maps[name]
        columns.each(name, of, lambda own: sizes.conv(own, size, 1, **settings), groups)
        return of

    of = conv("conv1", 11, strides=4)
    columns.each("norm1", of, norm)
    columns.each("pool1", of, pool)
    of = conv("conv2", 5, 2, padding="same")
    columns.each("norm2", of, norm)
    columns.each("pool2", of, pool)
    columns.exchange("pool2")
    conv("conv3", 3, padding="same")
    conv("conv4", 3, 2, padding="same")
    of = conv("conv5", 3, 2, padding="same")
    columns.each("pool5", of, pool)
    columns.exchange("pool5")
    columns.share(Flatten(name="flatten"))
    for digit in "67":
        columns.each(f"fc{digit}", 2 * sizes.units, lambda own: sizes.dense(own, 1))
        columns.exchange(f"fc{digit}")
        columns.share(Dropout(sizes.dropout, name=f"dropout{digit}"))
    half = {"fc8a": (sizes.classes + 1) // 2, "fc8b": sizes.classes // 2}
    columns.each("fc8", sizes.classes, lambda own: sizes.scores(own, half[own]))
    return columns.joined("fc8", 0), columns.crossings


class _Columns:
    """Builds both columns; `x` is the latest output of each."""

    def __init__(self, image: Symbolic, devices: Sequence[Device]) -> None:
        self.devices = devices
        self.crossings: dict[str, int] = {}
        self.x = [image, image]
        self.x[1] = self.brought("image", 0, 1)

    def each(self, name: str, of: int, make: Callable[[str], Layer], groups: int = 1) -> None:
        """Add a layer to each column: two shards of one with `of` maps or units, a's first.

        `groups` are those of the kernel in the grouped form.
        """
        first = 0
        for column, letter in enumerate(COLUMNS):
            layer = make(name + letter)
            layer.shard = Shard(name, first, of, groups)
            self.x[column] = layer(self.x[column])
            first += self.x[column].shape[-1] or 0

    def share(self, layer: Layer) -> None:
        """Use one layer in both columns, where both have all values: one dropout mask."""
        self.x = [layer(x) for x in self.x]

    def exchange(self, name: str) -> None:
        """Give both columns the outputs of both."""
        self.x = [self.joined(name, column) for column in range(2)]

    def joined(self, name: str, target: int) -> Symbolic:
        """The outputs of both columns, a's first, on the device of column `target`."""
        both = [self.brought(name, source, target) for source in range(2)]
        return Concatenate(name=f"{name}_all_{COLUMNS[target]}")(both)

    def brought(self, name: str, source: int, target: int) -> Symbolic:
        """The output of column `source` on the device of column `target`."""
        if source == target:
            return self.x[source]
        crossing = f"{name}_{COLUMNS[source]}_to_{COLUMNS[target]}"
        self.crossings[crossing] = target
        return ToDevice(self.devices[target], name=crossing)(self.x[source])
