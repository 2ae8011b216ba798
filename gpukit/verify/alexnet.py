"""What AlexNet's layers launch in a training step, and how evenly that fills a card.

One of the two columns: its convolutions, its fully connected layers, and what stands between the
first. Launchers run on `emu` with an engine that only writes launches down: they choose from shapes
and addresses, and nothing is computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gpukit.backends.cuda.conv.first import ACROSS, EACH
from gpukit.backends.cuda.conv.shape import ConvShape
from gpukit.device import get_device
from gpukit.dispatch.primitive import registry
from gpukit.launch import nvrtc
from gpukit.launch.engine import Call
from gpukit.launch.nvrtc import Resources
from gpukit.networks.alexnet import INPUT_SIZE, MAPS, UNITS
from gpukit.primitives.normalisation import Response
from gpukit.primitives.windows import Conv, Window
from gpukit.static.occupancy import occupancy

BATCH = 128
MULTIPROCESSORS = 132  # of an H100 or H200 in the form SXM
CLASSES = 500  # of a column

Shape = tuple[int, ...]


class Pass(NamedTuple):
    """A layer's call of a primitive: arrays by shape, settings; if it is a product, its m, n, k."""

    layer: str
    primitive: str
    shapes: tuple[Shape | None, ...]
    settings: dict[str, Any]
    product: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Filled:
    """A launch on a card: what it takes, how many waves it runs in, what it uses of its tiles."""

    layer: str
    primitive: str
    kernel: str
    blocks: int
    threads: int
    shared: int
    ranges: int
    resources: Resources
    resident: int
    multiprocessors: int
    columns: float | None
    rows: float | None

    @property
    def waves(self) -> float:
        """Blocks, in those that all multiprocessors hold at one time."""
        return self.blocks / (self.resident * self.multiprocessors)

    @property
    def last(self) -> float:
        """How much of its last wave a launch fills."""
        return self.waves % 1 or 1.0

    @property
    def filled(self) -> float:
        """Waves, in those that it takes time for: what is lost at the end, at worst."""
        return self.waves / -(-self.blocks // (self.resident * self.multiprocessors))

    @property
    def even(self) -> float:
        """The same where a block alone on a multiprocessor has its whole rate: the loss at best."""
        return self.blocks / self.multiprocessors / -(-self.blocks // self.multiprocessors)


class _Recorder:
    """An engine that writes launches down and runs nothing."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def launch(self, call: Call) -> None:
        self.calls.append(call)


def passes(batch: int = BATCH) -> Iterator[Pass]:
    """The calls of the layers of one column, in the order of a forward pass, gradients beside."""
    size = INPUT_SIZE
    yield from _convolution("conv1", (batch, size, size, 3), MAPS["conv1"], 11, 4, 0)
    size = (size - 11) // 4 + 1
    yield from _normalised_pool("pool1", (batch, size, size, MAPS["conv1"]))
    size = (size - 3) // 2 + 1
    yield from _convolution("conv2", (batch, size, size, MAPS["conv1"]), MAPS["conv2"], 5, 1, 2)
    yield from _normalised_pool("pool2", (batch, size, size, MAPS["conv2"]))
    size = (size - 3) // 2 + 1
    channels = 2 * MAPS["conv2"]  # conv3 sees both columns
    for name in ("conv3", "conv4", "conv5"):
        yield from _convolution(name, (batch, size, size, channels), MAPS[name], 3, 1, 1)
        channels = MAPS[name]
    size = (size - 3) // 2 + 1
    units = 2 * channels * size * size
    for name, of in (("fc6", UNITS), ("fc7", UNITS), ("fc8", CLASSES)):
        yield from _dense(name, batch, units, of)
        units = 2 * of


def _convolution(
    layer: str, x: Shape, filters: int, window: int, stride: int, pad: int
) -> Iterator[Pass]:
    conv = Conv((stride, stride), ((pad, pad), (pad, pad)))
    settings: dict[str, Any] = {"conv": conv}
    shape = ConvShape(x, (window, window, x[3], filters), conv)
    w, y, pixels = shape.w, shape.y, math.prod(x[:3])
    # What follows the first two adds their bias (graph/fusion.py).
    bias, activation = (None, None) if layer in ("conv1", "conv2") else ((filters,), "relu")
    yield Pass(
        layer, "conv2d", (x, w, bias), settings | {"activation": activation},
        (shape.pixels, filters, shape.window),
    )  # fmt: skip
    if x[3] > 3:  # images need no gradient
        product = (pixels, x[3], window * window * filters)
        yield Pass(layer, "conv2d_input_grad", (y, w), settings | {"input_shape": x}, product)
    yield Pass(
        layer, "conv2d_weight_grad", (x, y), settings | {"kernel_shape": w},
        (shape.window, filters, shape.pixels),
    )  # fmt: skip


def _normalised_pool(layer: str, x: Shape) -> Iterator[Pass]:
    settings: dict[str, Any] = {
        "relu": True,
        "response": Response(size=5, alpha=5e-4, beta=0.75, k=2.0),
        "window": Window((3, 3), (2, 2)),
    }
    y = (x[0], *(((side - 3) // 2 + 1) for side in x[1:3]), x[3])
    yield Pass(layer, "bias_relu_lrn_pool", (x, x[3:]), settings)
    yield Pass(layer, "bias_relu_lrn_pool_grad", (y, x, x[3:], y), settings)


def _dense(layer: str, batch: int, units: int, of: int) -> Iterator[Pass]:
    x, w, y = (batch, units), (units, of), (batch, of)
    yield Pass(layer, "dense", (x, w, (of,)), {"activation": None}, (batch, of, units))
    yield Pass(layer, "dense_input_grad", (y, w), {}, (batch, units, of))
    yield Pass(layer, "dense_weight_grad", (x, y), {}, (units, of, batch))


def launches_of(one: Pass) -> list[Call]:
    """What a call launches, the kernel that does its work first."""
    device, recorder = get_device("emu"), _Recorder()
    arrays = [
        None if shape is None else device.wrap(np.empty(shape, _dtype(one, i)))
        for i, shape in enumerate(one.shapes)
    ]
    with registry.instead("emu", recorder):
        registry[one.primitive](*arrays, **one.settings)
    return recorder.calls


def _dtype(one: Pass, place: int) -> type:
    is_index = one.primitive == "bias_relu_lrn_pool_grad" and place == 3
    return np.uint8 if is_index else np.float32


def filled(arch: int, multiprocessors: int = MULTIPROCESSORS, batch: int = BATCH) -> list[Filled]:
    """The first launch of every call, which does its work, compiled for sm_`arch`."""
    known: dict[str, Resources] = {}
    found = []
    for one in passes(batch):
        call = launches_of(one)[0]
        kernel = call.bound.expression
        if kernel not in known:
            source = call.bound.source
            made = nvrtc.compile_text(source.text, [kernel], arch, name=source.file)
            known[kernel] = made.resources[kernel]
        taken, threads = known[kernel], int(np.prod(call.block))
        room = occupancy(arch, threads, taken.registers, taken.shared + call.shared)
        columns, rows = _used(call, one)
        found.append(
            Filled(
                one.layer, one.primitive, kernel, int(np.prod(call.grid)), threads,
                taken.shared + call.shared, _ranges(call), taken, room.blocks, multiprocessors,
                columns, rows,
            )
        )  # fmt: skip
    return found


def _ranges(call: Call) -> int:
    """Ranges into which a product's sums are cut."""
    values = {p.name: a for p, a in zip(call.bound.parameters, call.arguments)}
    if "each" in values and "tiles" in values:  # conv/first.cu's gradient
        return -(-int(values["tiles"]) // int(values["each"]))
    return int(values.get("splits", 1))


def _used(call: Call, one: Pass) -> tuple[float | None, float | None]:
    """The shares of a tile's columns and rows that belong to the result, over all tiles."""
    names = [t.name for t in call.bound.declaration.template]
    template = dict(zip(names, call.bound.instance.arguments))
    if one.product is None:
        return None, None
    m, n, _ = one.product
    if "TILE_N" in template:
        return _share(n, int(template["TILE_N"])), _share(m, int(template["TILE_M"]))
    columns = _share(n, int(template["FILTERS"]))
    if "GROUPS" in template:
        return columns, _share(m, EACH * int(template["GROUPS"]))
    sizes = {p.name: a for p, a in zip(call.bound.parameters, call.arguments)}
    down, across = int(sizes["out_height"]), int(sizes["out_width"])
    return columns, _share(down, int(template["ROWS"])) * _share(across, ACROSS)


def _share(n: int, tile: int) -> float:
    return n / (-(-n // tile) * tile)
