"""AlexNet with response normalisation: a whole training step, and inference.

Every contestant begins with the same weights and images. Before anybody is timed, the losses of two
steps without dropout must agree (the second loss depends on every gradient), or the loss of the
predictions. Dropout is back on when steps are timed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.contest import Contestant, agree, contest
from bench.duel import Result

MAPS, UNITS = (48, 128, 192, 192, 128), 2048
LRN = {"size": 5, "alpha": 5e-4, "beta": 0.75, "k": 2.0}
RATE, MOMENTUM, DECAY, DROPOUT = 0.001, 0.9, 5e-4, 0.5
# Rounding differs; a wrong gradient changes the loss of the second step by far more.
LIMIT = 2e-4
_ROUNDS = 7


@dataclass(frozen=True)
class Net:
    """The grouped form of AlexNet, and a batch for it."""

    batch: int
    size: int = 227
    width: float = 1.0
    classes: int = 1000

    @property
    def name(self) -> str:
        """For tables."""
        return f"batch-{self.batch}"

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

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Kernels by layer, as gpukit has them: (R, S, C/groups, K) and (in, out)."""
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


BATCHES = [Net(32), Net(128)]
DRY = [Net(2, size=67, width=0.1, classes=10)]


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
    """x (N, H, W, 3) and labels."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((net.batch, net.size, net.size, 3), dtype=np.float32)
    return x, rng.integers(0, net.classes, net.batch)


def loss_of(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy of scores before the softmax (N, classes)."""
    scores = scores.astype(np.float64)
    scores -= scores.max(axis=1, keepdims=True)
    total = np.log(np.exp(scores).sum(axis=1))
    return float((total - scores[np.arange(len(labels)), labels]).mean())


def training(match: str, dry: bool) -> Iterator[Result]:
    """A training step: the grouped form and two columns, against the fastest of PyTorch's ways."""
    ways = ["eager", "channels_last"] if dry else ["eager", "channels_last", "compiled"]
    for net in DRY if dry else BATCHES:
        if match not in net.name:
            continue
        rival, wanted = _fastest(
            [(way, "bench.alexnet_rivals:training", net, way) for way in ways], dry
        )
        forms = ("grouped", "columns")
        ours = [Contestant(form, "bench.alexnet_ours:training", net, form) for form in forms]
        yield from _race("alexnet", net, ours, rival, wanted, dry)


def inference(match: str, dry: bool) -> Iterator[Result]:
    """Predictions of the grouped form, against onnxruntime and against eager PyTorch."""
    for net in DRY if dry else BATCHES:
        if match not in net.name:
            continue
        ways = ("eager", "channels_last")
        rivals = {"pytorch": [(way, "bench.alexnet_rivals:inference", net, way) for way in ways]}
        if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
            name = "onnxruntime"
            rivals[name] = [(name, "bench.alexnet_rivals:onnx_inference", net)]
        else:
            print("onnxruntime is left out: pip install onnx onnxruntime")
        for against, candidates in rivals.items():
            rival, wanted = _fastest(candidates, dry)
            ours = [Contestant(against, "bench.alexnet_ours:inference", net)]
            yield from _race("alexnet-inference", net, ours, rival, wanted, dry)


def _fastest(candidates: Sequence[tuple[Any, ...]], dry: bool) -> tuple[Contestant, list[float]]:
    """The one of some contestants with the shortest run, and the figures that all agree on.

    One is alive beside the best so far: several networks of 128 images do not fit everywhere.
    """
    best: Contestant | None = None
    wanted: list[float] = []
    shortest = float("inf")
    for arguments in candidates:
        one = Contestant(*arguments)
        figures = one.check()
        wanted = wanted or figures
        agree(one.name, figures, wanted, LIMIT)
        seconds = min(one.run() for _ in range(1 if dry else 3))
        loser = one
        if seconds < shortest:
            best, loser, shortest = one, best, seconds
        if loser is not None:
            loser.close()
    assert best is not None
    return best, wanted


def _race(
    group: str,
    net: Net,
    ours: list[Contestant],
    rival: Contestant,
    wanted: list[float],
    dry: bool,
) -> list[Result]:
    try:
        for one in ours:
            agree(one.name, one.check(), wanted, LIMIT)
        return contest(group, net.name, ours, rival, 2 if dry else _ROUNDS)
    finally:
        for one in [*ours, rival]:
            one.close()
