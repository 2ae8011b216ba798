"""What AlexNet's layers launch in a training step, and how evenly that fills a card.

One of the two columns: its convolutions, its fully connected layers, and what stands between the
first. Launchers run on `emu` with an engine that only writes launches down: they choose from shapes
and addresses, and nothing is computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from gpukit.backends.cuda.conv.first import ACROSS, EACH
from gpukit.device import get_device
from gpukit.dispatch.declaration import Problem
from gpukit.dispatch.primitive import registry
from gpukit.launch import nvrtc
from gpukit.launch.engine import Call, Recorder
from gpukit.launch.nvrtc import Resources
from gpukit.race.problems import problem
from gpukit.race.tables import ALEXNET
from gpukit.static.occupancy import occupancy

BATCH = 128
MULTIPROCESSORS = 132  # of an H100 or H200 in the form SXM


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


def passes(batch: int = BATCH) -> Iterator[Problem]:
    """The calls of the layers of one column, in the order of a forward pass, gradients beside.

    A column has half of each layer's outputs, and sees half of what its layers see in groups.
    """
    pools = iter(ALEXNET.response_pools)
    for layer in ALEXNET.convs:
        h, w, c, k, *window, groups = layer.sizes
        sizes = (batch, h, w, c // groups, k // 2, *window, 1)
        forward = problem("conv2d", sizes, layer.name)
        pool = next(pools, None)
        if pool:  # whose kernel adds the bias, and applies ReLU
            yield replace(forward, arguments=forward.arguments[:2])
        else:
            yield replace(forward, settings=forward.settings | {"activation": "relu"})
        if c > 3:  # images need no gradient
            yield problem("conv2d_input_grad", sizes, layer.name)
        yield problem("conv2d_weight_grad", sizes, layer.name)
        if pool:
            h, w, c, *window = pool.sizes
            for name in ("bias_relu_lrn_pool", "bias_relu_lrn_pool_grad"):
                yield problem(name, (batch, h, w, c // 2, *window), pool.name.split(", ")[1])
    for layer in ALEXNET.denses:
        inputs, outputs = layer.sizes
        for name in ("dense", "dense_input_grad", "dense_weight_grad"):
            yield problem(name, (batch, inputs, outputs // 2), layer.name)


def launches_of(one: Problem) -> tuple[list[Call], tuple[int, ...]]:
    """What a call launches, the kernel that does its work first; the shape of its first result."""
    device, recorder = get_device("emu"), Recorder()
    arrays = [device.wrap(np.empty(a.shape, a.dtype)) for a in one.arguments]
    with registry.instead("emu", recorder):
        results = registry[one.primitive](*arrays, **one.settings)
    return recorder.calls, (results[0] if isinstance(results, tuple) else results).shape


def filled(arch: int, multiprocessors: int = MULTIPROCESSORS, batch: int = BATCH) -> list[Filled]:
    """The first launch of every call, which does its work, compiled for sm_`arch`."""
    known: dict[str, Resources] = {}
    found = []
    for one in passes(batch):
        (call, *_), shape = launches_of(one)
        kernel = call.bound.expression
        if kernel not in known:
            source = call.bound.source
            made = nvrtc.compile_text(source.text, [kernel], arch, name=source.file)
            known[kernel] = made.resources[kernel]
        taken, threads = known[kernel], int(np.prod(call.block))
        room = occupancy(arch, threads, taken.registers, taken.shared + call.shared)
        columns, rows = _used(call, shape)
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


def _used(call: Call, shape: tuple[int, ...]) -> tuple[float | None, float | None]:
    """The shares of a tile's columns and rows that belong to the result, over all tiles."""
    names = [t.name for t in call.bound.declaration.template]
    template = dict(zip(names, call.bound.instance.arguments))
    m, n = math.prod(shape[:-1]), shape[-1]  # of the result, as a matrix product's
    if "TILE_N" in template:
        return _share(n, int(template["TILE_N"])), _share(m, int(template["TILE_M"]))
    if "FILTERS" not in template:  # no product
        return None, None
    columns = _share(n, int(template["FILTERS"]))
    if "GROUPS" in template:
        return columns, _share(m, EACH * int(template["GROUPS"]))
    sizes = {p.name: a for p, a in zip(call.bound.parameters, call.arguments)}
    down, across = (int(sizes["conv"][name]) for name in ("p", "q"))
    return columns, _share(down, int(template["ROWS"])) * _share(across, ACROSS)


def _share(n: int, tile: int) -> float:
    return n / (-(-n // tile) * tile)
