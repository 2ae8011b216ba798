"""What it costs to look at every step: python -m bench.watched [--device emu] [--alexnet] …

Steps with and without the check of loss and gradients for values that are not finite alternate in
one process, in a random order, and so do replays, one step in EVERY (100) computed twice. Prints
the ratio of the medians; the check should stay below 1.02.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Callable

import numpy as np

from bench.contest import seconds
from gpukit import models, optimizers
from gpukit.data.feed import Batch
from gpukit.model.saving import Base
from gpukit.training.replay import take_step_twice
from gpukit.training.step import Work, take_step


def networks(device: str, batch: int, alexnet: bool) -> tuple[Base, Work]:
    """A compiled network and a batch for it."""
    rng = np.random.default_rng(0)
    if alexnet:
        model: Base = models.alexnet((227, 227, 3), 1000, columns=1, groups=True, device=device)
        x = rng.standard_normal((batch, 227, 227, 3), dtype=np.float32)
    else:
        model = models.lenet5(seed=0, device=device)
        x = rng.standard_normal((batch, 28, 28, 1), dtype=np.float32)
    model.compile(optimizers.SGD(1e-4, momentum=0.9), "sparse_categorical_crossentropy")
    return model, Work(Batch(x, np.arange(batch) % 10))


def main() -> None:
    """Time the steps and print the ratios."""
    parser = argparse.ArgumentParser(prog="python -m bench.watched", description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--alexnet", action="store_true", help="instead of LeNet-5")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--every", type=int, default=100, help="of replays (100)")
    options = parser.parse_args()
    model, work = networks(options.device, options.batch, options.alexnet)
    steps: dict[str, Callable[[], object]] = {
        "plain": lambda: take_step(model, work, check=False),
        "checked": lambda: take_step(model, work),
        "twice": lambda: take_step_twice(model, work),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    draw = random.Random(0)
    for _ in range(3):
        for step in steps.values():
            step()
    for number in range(options.rounds):
        names = [n for n in steps if n != "twice" or number % 5 == 0]
        for name in draw.sample(names, len(names)):
            times[name].append(seconds(steps[name]))
    middle = {name: statistics.median(found) for name, found in times.items()}
    replayed = 1 + (middle["twice"] / middle["checked"] - 1) / options.every
    print(
        f"{model.name}, batch {options.batch}, {options.device}: a step "
        f"{middle['plain'] * 1e3:.3f} ms; checked for what is not finite "
        f"{middle['checked'] / middle['plain']:.3f} times that; "
        f"computed twice and compared {middle['twice'] / middle['plain']:.2f} times, "
        f"one step in {options.every}: {replayed:.3f}"
    )


if __name__ == "__main__":
    main()
