"""Whole networks: a training step, and inference, of LeNet-5 and of AlexNet with its LRN.

Every entrant begins with the same weights and images. Before any is timed, the losses of two steps
without dropout must agree (the second loss depends on every gradient), or the loss of the
predictions. Dropout is back on when steps are timed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass

import numpy as np

from bench import on_card
from bench.contest import Contestant, Result, agree, contest
from gpukit.device import Device

MAPS, UNITS = (48, 128, 192, 192, 128), 2048
LRN = {"size": 5, "alpha": 5e-4, "beta": 0.75, "k": 2.0}
MOMENTUM, DROPOUT = 0.9, 0.5
# Rounding differs; a wrong gradient changes the loss of the second step by far more.
LIMIT = 2e-4


@dataclass(frozen=True)
class Layer:
    """A convolution, or with `size` 0 a dense layer; ReLU follows it, except at the end.

    `response`: then LRN; `pool`: the size of a max-pool with stride 2 behind it.
    """

    name: str
    outputs: int
    size: int = 0
    stride: int = 1
    padding: int = 0
    groups: int = 1
    response: bool = False
    pool: int = 0
    dropout: bool = False


@dataclass(frozen=True)
class Net:
    """A network, and a batch for it; AlexNet in its grouped form. `rounds` it is timed."""

    network: str
    batch: int
    size: int
    classes: int
    rate: float
    rounds: int
    decay: float = 0.0
    width: float = 1.0

    @property
    def name(self) -> str:
        """For tables."""
        return f"batch-{self.batch}"

    @property
    def channels(self) -> int:
        """Of an image."""
        return 1 if self.network == "lenet" else 3

    @property
    def layers(self) -> tuple[Layer, ...]:
        """What has weights, and what follows it."""
        if self.network == "lenet":
            return (
                Layer("c1", 6, 5, padding=2, pool=2),
                Layer("c3", 16, 5, pool=2),
                Layer("f5", 120),
                Layer("f6", 84),
                Layer("output", self.classes),
            )
        # Of both columns together.
        *maps, units = (2 * max(2, 2 * round(n * self.width / 2)) for n in (*MAPS, UNITS))
        return (
            Layer("conv1", maps[0], 11, stride=4, response=True, pool=3),
            Layer("conv2", maps[1], 5, padding=2, groups=2, response=True, pool=3),
            Layer("conv3", maps[2], 3, padding=1),
            Layer("conv4", maps[3], 3, padding=1, groups=2),
            Layer("conv5", maps[4], 3, padding=1, groups=2, pool=3),
            Layer("fc6", units, dropout=True),
            Layer("fc7", units, dropout=True),
            Layer("fc8", self.classes),
        )

    def inputs(self) -> Iterator[tuple[Layer, int, int]]:
        """Each layer with height and width, and channels, of what it reads."""
        size, channels = self.size, self.channels
        for layer in self.layers:
            yield layer, size, channels
            if layer.size:
                size = (size + 2 * layer.padding - layer.size) // layer.stride + 1
                size = (size - layer.pool) // 2 + 1 if layer.pool else size
            else:
                size = 1
            channels = layer.outputs


def lenet(batch: int) -> Net:
    """LeNet-5 for images of 28×28 pixels."""
    return Net("lenet", batch, size=28, classes=10, rate=0.01, rounds=101)


def alexnet(batch: int, size: int = 227, width: float = 1.0, classes: int = 1000) -> Net:
    """AlexNet, its maps and units times `width`."""
    return Net("alexnet", batch, size, classes, rate=0.001, rounds=7, decay=5e-4, width=width)


def weights(net: Net) -> dict[str, np.ndarray]:
    """Kernels, (R, S, C/groups, K) and (in, out), and biases by "layer/kernel": random, of a size
    that keeps values alive."""
    rng = np.random.default_rng(0)
    made = {}
    for layer, size, channels in net.inputs():
        shape: tuple[int, ...] = (size * size * channels, layer.outputs)
        if layer.size:
            shape = (layer.size, layer.size, channels // layer.groups, layer.outputs)
        deviation = np.float32((2 / np.prod(shape[:-1])) ** 0.5)
        made[f"{layer.name}/kernel"] = rng.standard_normal(shape, dtype=np.float32) * deviation
        made[f"{layer.name}/bias"] = rng.random(shape[-1], dtype=np.float32) * np.float32(0.1)
    return made


def images(net: Net) -> tuple[np.ndarray, np.ndarray]:
    """x (N, H, W, C) and labels."""
    rng = np.random.default_rng(1)
    shape = (net.batch, net.size, net.size, net.channels)
    return rng.standard_normal(shape, dtype=np.float32), rng.integers(0, net.classes, net.batch)


def loss_of(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy of scores before the softmax (N, classes)."""
    scores = scores.astype(np.float64)
    scores -= scores.max(axis=1, keepdims=True)
    total = np.log(np.exp(scores).sum(axis=1))
    return float((total - scores[np.arange(len(labels)), labels]).mean())


@dataclass(frozen=True)
class Group:
    """What is timed of a network: `side` is a function of gpukit_side.py and of rival_sides.py."""

    side: str
    nets: tuple[Net, ...]
    dry: Net
    forms: tuple[str, ...] = ("grouped",)
    compiled: bool = False


_ALEXNETS, _TINY = (alexnet(32), alexnet(128)), alexnet(2, size=67, width=0.1, classes=10)
GROUPS = {
    "lenet": Group("training", (lenet(64), lenet(128)), lenet(8), ("lenet",)),
    "alexnet": Group("training", _ALEXNETS, _TINY, ("grouped", "columns"), compiled=True),
    "alexnet-inference": Group("inference", _ALEXNETS, _TINY),
}
ON_CARD = ("eager", "channels_last")
Entrant = Contestant | on_card.OnCard


def race(name: str, device: Device, match: str, dry: bool, compiled: bool) -> Iterator[Result]:
    """Time a group of GROUPS: gpukit's forms, against the fastest of each rival's variants."""
    group = GROUPS[name]
    host = device.in_host_memory
    forms = group.forms if host else group.forms[:1]
    for net in (group.dry,) if dry else group.nets:
        if match not in net.name:
            continue
        variants = [*ON_CARD]
        if host and not dry and (compiled or group.compiled):
            variants.append("compiled")
        rivals = {"pytorch": [(v, f"bench.rival_sides:{group.side}", v) for v in variants]}
        if host and group.side == "inference":
            if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
                function = "bench.rival_sides:onnx_inference"
                rivals["onnxruntime"] = [("onnxruntime", function, "")]
            else:
                print("onnxruntime is left out: pip install onnx onnxruntime")
        for against, candidates in rivals.items():
            ours = {f: f for f in forms} if group.side == "training" else {against: forms[0]}
            with ExitStack() as closing:
                rival, wanted = _fastest(net, device, candidates, dry)
                closing.callback(rival.close)
                entrants = []
                for label, form in ours.items():
                    one = _entrant(label, f"bench.gpukit_side:{group.side}", net, form, device)
                    closing.callback(one.close)
                    agree(label, one.check(), wanted, LIMIT)
                    entrants.append(one)
                yield from contest(name, net.name, entrants, rival, 2 if dry else net.rounds)


def _entrant(name: str, function: str, net: Net, form: str, device: Device) -> Entrant:
    if device.in_host_memory:
        return Contestant(name, function, asdict(net), form)
    return on_card.OnCard(name, function, asdict(net), form, device.name)


def _fastest(
    net: Net, device: Device, candidates: Sequence[tuple[str, str, str]], dry: bool
) -> tuple[Entrant, list[float]]:
    """The one of some entrants with the shortest run, and the figures that all agree on.

    One is alive beside the best so far: several networks of 128 images do not fit everywhere.
    """
    best: Entrant | None = None
    wanted: list[float] = []
    shortest = float("inf")
    for name, function, variant in candidates:
        one = _entrant(name, function, net, variant, device)
        figures = one.check()
        wanted = wanted or figures
        agree(name, figures, wanted, LIMIT)
        seconds = min(one.run() for _ in range(1 if dry else 3))
        loser: Entrant | None = one
        if seconds < shortest:
            best, loser, shortest = one, best, seconds
        if loser is not None:
            loser.close()
    assert best is not None
    return best, wanted


def rehearse(names: Sequence[str], device: Device) -> int:
    """Run the groups tiny on a device without speed, PyTorch on the CPU; how many went wrong."""
    import torch

    torch.set_num_threads(1)
    bad = 0
    for name in names:
        try:
            rehearsed(name, device.name)
        except Exception as error:  # whatever it is, the other groups are to be seen
            bad += 1
            print(f"{name}: {type(error).__name__}: {error}")
    print(f"{len(names)} cases rehearsed on {device}, {bad} wrong; nothing timed, it has no speed")
    return bad


def rehearsed(name: str, device: str) -> list[str]:
    """Run both sides of a group once, tiny, after they agreed; PyTorch's variants."""
    group = GROUPS[name]
    order = asdict(group.dry)
    mine = on_card.OnCard(name, f"bench.gpukit_side:{group.side}", order, group.forms[0], device)
    wanted = mine.check()
    for variant in ON_CARD:
        theirs = on_card.OnCard(variant, f"bench.rival_sides:{group.side}", order, variant, "cpu")
        agree(f"PyTorch, {variant},", theirs.check(), wanted, LIMIT)
        theirs.once()
    mine.once()
    return [*ON_CARD]
