"""What a launch and a training step cost on the host, before a card does anything.

    python -m bench launch            # or python -m bench.launch [--json FILE]

LeNet-5 trains on the device emu, whose engine is replaced by one that does nothing, and whose
memory is not written: what is left is gpukit's own work in Python, which a card waits for. Times
are of the thread's CPU, so that other processes count little; medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from bench import ours
from bench.cases import LENETS
from gpukit import device, models, optimizers
from gpukit.backends import engine, kernel
from gpukit.backends.primitive import load_backend
from gpukit.training import loop

BATCH = 64
LOOKUPS = {device.device_of.__code__: "device_of", device.get_device.__code__: "get_device"}


class Idle:
    """An engine that only counts launches and the scalars among their arguments."""

    def __init__(self) -> None:
        self.launches = self.scalars = 0

    def launch(self, call: engine.Call) -> None:
        """Take a checked launch, and run nothing."""
        self.launches += 1
        self.scalars += sum(isinstance(a, np.generic) for a in call.arguments)


class Nothing:
    """An engine that does nothing."""

    def launch(self, call: engine.Call) -> None:
        """Take a checked launch."""


@contextmanager
def engine_in_place(instead: engine.Engine) -> Iterator[None]:
    """Within the block, `instead` runs the kernels of emu, and emu's memory stays unwritten."""
    load_backend("emu")
    maker, written = engine._makers["emu"], device._unwritten
    engine.register("emu", lambda: instead)
    device._unwritten = np.empty
    try:
        yield
    finally:
        engine.register("emu", maker)
        device._unwritten = written


def cpu_us(work: Callable[[], Any], times: int, rounds: int) -> float:
    """Median CPU microseconds of a call of `work`, of `rounds` rounds of `times` calls."""
    found = []
    for _ in range(rounds):
        start = time.thread_time_ns()
        for _ in range(times):
            work()
        found.append((time.thread_time_ns() - start) / times / 1e3)
    return statistics.median(found)


def loop_step() -> ours.Task:
    """One training step of LeNet-5 as `fit` does it: images by their labels, loss and accuracy."""
    rng = np.random.default_rng(0)
    model = models.lenet5(seed=0, device="emu")
    model.compile(
        optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy", ["accuracy"]
    )
    x = rng.integers(0, 256, (BATCH, 28, 28, 1)).astype(np.float32)
    y = rng.integers(0, 10, BATCH)
    return lambda: loop.train_step(model, model.to_device(x), y)


def public_step() -> ours.Task:
    """The same by the public API: loss, gradients, SGD with momentum."""
    ours.use("emu")
    return ours.lenet_step(next(case for case in LENETS if case.batch == BATCH))


def count(step: ours.Task) -> dict[str, int]:
    """What one step does: launches, their scalars, look-ups of devices, calls of functions."""
    idle, calls = Idle(), Counter[str]()

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            calls["calls"] += 1
            calls[LOOKUPS.get(frame.f_code, "other")] += 1

    with engine_in_place(idle):
        step()
        idle.launches = idle.scalars = 0
        sys.setprofile(profile)
        try:
            step()
        finally:
            sys.setprofile(None)
    return {
        "launches": idle.launches,
        "scalars": idle.scalars,
        "device look-ups": sum(calls[name] for name in LOOKUPS.values()),
        "calls of Python functions": calls["calls"],
    }


def launches_of(step: ours.Task) -> list[Callable[[], None]]:
    """Every launch of one step, to be done again."""
    found: list[Callable[[], None]] = []
    original = kernel.Kernel.launch

    def note(self: kernel.Kernel, *arguments: Any, **settings: Any) -> None:
        found.append(lambda: original(self, *arguments, **settings))
        original(self, *arguments, **settings)

    kernel.Kernel.launch = note  # type: ignore[method-assign]
    try:
        step()
    finally:
        kernel.Kernel.launch = original  # type: ignore[method-assign]
    return found


def measure() -> dict[str, Any]:
    """Microseconds a launch, milliseconds a step, and what a step does."""
    figures: dict[str, Any] = {}
    with engine_in_place(Nothing()):
        for name, make in (("public API", public_step), ("fit", loop_step)):
            step = make()
            for _ in range(5):
                step()
            again = launches_of(step)
            each = [cpu_us(one, 20, 15) for one in again]
            figures[name] = {
                "us_a_launch": statistics.mean(each),
                "us_dearest_launch": max(each),
                "ms_a_step": cpu_us(step, 3, 41) / 1e3,
            }
            figures[name].update(count(step))
    return figures


def lines(figures: dict[str, Any]) -> list[str]:
    """The figures as text."""
    shown = [f"LeNet-5, batch {BATCH}, a training step's work on the host (engine: none)"]
    for name, of in figures.items():
        shown.append(
            f"{name:11} {of['ms_a_step']:6.2f} ms a step, {of['launches']} launches of "
            f"{of['us_a_launch']:.1f} µs (dearest {of['us_dearest_launch']:.1f}), {of['scalars']} "
            f"scalars, {of['device look-ups']} device look-ups, "
            f"{of['calls of Python functions']} calls of functions"
        )
    return shown


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.launch", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    found = measure()
    print(*lines(found), sep="\n")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
