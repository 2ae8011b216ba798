"""Whole networks: a training step, and inference, of LeNet-5 and of AlexNet with its LRN.

Every entrant begins with the same weights and images. Before any is timed, the losses of two steps
without dropout must agree (the second loss depends on every gradient), or the loss of the
predictions. Dropout is back on when steps are timed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from bench import on_card
from bench.contest import Contestant, Entrant, Result, agree, contest
from gpukit.device import CPU, Device

MAPS, UNITS = (48, 128, 192, 192, 128), 2048
LRN = {"size": 5, "alpha": 5e-4, "beta": 0.75, "k": 2.0}
MOMENTUM, DROPOUT = 0.9, 0.5
# Rounding differs; a wrong gradient changes the loss of the second step by far more.
LIMIT = 2e-4
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Net:
    """A network, and a batch for it."""

    batch: int
    size: int
    width: float
    classes: int

    network: ClassVar[str]
    rate: ClassVar[float]
    decay: ClassVar[float]
    rounds: ClassVar[int]

    @property
    def name(self) -> str:
        """For tables."""
        return f"batch-{self.batch}"

    @property
    def last_size(self) -> int:
        """Height and width of what the first dense layer reads."""
        raise NotImplementedError

    def shapes(self) -> dict[str, Shape]:
        """Kernels by layer, as gpukit has them: (R, S, C/groups, K) and (in, out)."""
        raise NotImplementedError

    def as_order(self) -> dict[str, Any]:
        """For a worker process; `net_of` reads it."""
        return {"network": self.network, **asdict(self)}


@dataclass(frozen=True)
class AlexNet(Net):
    """The grouped form."""

    size: int = 227
    width: float = 1.0
    classes: int = 1000

    network = "alexnet"
    rate, decay = 0.001, 5e-4
    rounds = 7

    @property
    def maps(self) -> list[int]:
        """Maps of conv1 … conv5, both columns."""
        return [2 * self._even(n) for n in MAPS]

    @property
    def units(self) -> int:
        """Units of fc6 and fc7, both columns."""
        return 2 * self._even(UNITS)

    def _even(self, count: int) -> int:
        return max(2, 2 * round(count * self.width / 2))

    @property
    def last_size(self) -> int:
        """Height and width of what fc6 reads."""
        size = (self.size - 11) // 4 + 1
        for _ in range(3):
            size = (size - 3) // 2 + 1
        return size

    def shapes(self) -> dict[str, Shape]:
        """Kernels by layer."""
        a, b, c, d, e = self.maps
        return {
            "conv1": (11, 11, 3, a),
            "conv2": (5, 5, a // 2, b),
            "conv3": (3, 3, b, c),
            "conv4": (3, 3, c // 2, d),
            "conv5": (3, 3, d // 2, e),
            "fc6": (self.last_size**2 * e, self.units),
            "fc7": (self.units, self.units),
            "fc8": (self.units, self.classes),
        }


@dataclass(frozen=True)
class LeNet(Net):
    """LeNet-5 for images of 28×28 pixels."""

    size: int = 28
    width: float = 1.0
    classes: int = 10

    network = "lenet"
    rate, decay = 0.01, 0.0
    rounds = 101

    @property
    def last_size(self) -> int:
        """Height and width of what f5 reads."""
        return (self.size // 2 - 4) // 2

    def shapes(self) -> dict[str, Shape]:
        """Kernels by layer."""
        return {
            "c1": (5, 5, 1, 6),
            "c3": (5, 5, 6, 16),
            "f5": (self.last_size**2 * 16, 120),
            "f6": (120, 84),
            "output": (84, self.classes),
        }


def net_of(order: dict[str, Any]) -> Net:
    """The network that `as_order` described."""
    rest = {name: value for name, value in order.items() if name != "network"}
    return {"alexnet": AlexNet, "lenet": LeNet}[order["network"]](**rest)


def weights(net: Net) -> dict[str, np.ndarray]:
    """Kernels and biases by "layer/kernel": random, of a size that keeps values alive."""
    rng = np.random.default_rng(0)
    made = {}
    for layer, shape in net.shapes().items():
        deviation = np.float32((2 / np.prod(shape[:-1])) ** 0.5)
        made[f"{layer}/kernel"] = rng.standard_normal(shape, dtype=np.float32) * deviation
        made[f"{layer}/bias"] = rng.random(shape[-1], dtype=np.float32) * np.float32(0.1)
    return made


def images(net: Net) -> tuple[np.ndarray, np.ndarray]:
    """x (N, H, W, C) and labels."""
    rng = np.random.default_rng(1)
    channels = next(iter(net.shapes().values()))[2]
    x = rng.standard_normal((net.batch, net.size, net.size, channels), dtype=np.float32)
    return x, rng.integers(0, net.classes, net.batch)


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


_ALEXNETS, _TINY = (AlexNet(32), AlexNet(128)), AlexNet(2, size=67, width=0.1, classes=10)
GROUPS = {
    "lenet": Group("training", (LeNet(64), LeNet(128)), LeNet(8), ("lenet",)),
    "alexnet": Group("training", _ALEXNETS, _TINY, ("grouped", "columns"), compiled=True),
    "alexnet-inference": Group("inference", _ALEXNETS, _TINY),
}
ON_CARD = ("eager", "channels_last")


def race(
    name: str, device: Device = CPU, match: str = "", dry: bool = False, compiled: bool = False
) -> Iterator[Result]:
    """Time a group of GROUPS: gpukit's forms, against the fastest of each rival's variants."""
    group = GROUPS[name]
    host = device.kind == "cpu"
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
            yield from _race(name, net, device, ours, candidates, dry)


def _race(
    group: str,
    net: Net,
    device: Device,
    ours: dict[str, str],
    candidates: Sequence[tuple[str, str, str]],
    dry: bool,
) -> list[Result]:
    side = f"bench.gpukit_side:{GROUPS[group].side}"
    rival, wanted = _fastest(net, device, candidates, dry)
    entrants = [rival]
    try:
        for name, form in ours.items():
            entrants.append(_entrant(name, side, net, form, device))
            agree(name, entrants[-1].check(), wanted, LIMIT)
        return contest(group, net.name, entrants[1:], rival, 2 if dry else net.rounds)
    finally:
        for one in entrants:
            one.close()


def _entrant(name: str, function: str, net: Net, form: str, device: Device) -> Entrant:
    if device.kind == "cpu":
        return Contestant(name, function, net.as_order(), form)
    return on_card.OnCard(name, function, net.as_order(), form, device.name)


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
    order = group.dry.as_order()
    mine = on_card.OnCard(name, f"bench.gpukit_side:{group.side}", order, group.forms[0], device)
    wanted = mine.check()
    for variant in ON_CARD:
        theirs = on_card.OnCard(variant, f"bench.rival_sides:{group.side}", order, variant, "cpu")
        agree(f"PyTorch, {variant},", theirs.check(), wanted, LIMIT)
        theirs.once()
    mine.once()
    return [*ON_CARD]
