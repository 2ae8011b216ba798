"""What a launch and a training step cost on the host, before a card does anything.

LeNet-5 trains on the device emu, whose engine is replaced by one that does nothing, and whose
memory is not written: what is left is gpukit's own work in Python, which a card waits for. Times
are of the thread's CPU, so that other processes count little: medians, and the least of all rounds,
which a busy machine disturbs least. Neither NumPy's nor CuPy's own launches are part of it.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from types import FrameType
from typing import Any

import numpy as np

from bench.gpukit_side import training
from bench.networks import lenet
from gpukit import device, models, optimizers
from gpukit.device import emulated
from gpukit.dispatch.primitive import registry
from gpukit.launch import engine, kernel
from gpukit.training import loop

BATCH = 64
LOOKUPS = {device.device_of.__code__: "device_of", device.get_device.__code__: "get_device"}


class Nothing:
    """An engine that does nothing."""

    def launch(self, call: engine.Call) -> None:
        """Take a checked launch."""


@contextmanager
def engine_in_place(instead: engine.Engine) -> Iterator[None]:
    """Within the block, `instead` runs the kernels of emu, and emu's memory stays unwritten."""
    written, emulated.unwritten = emulated.unwritten, np.empty
    try:
        with registry.instead("emu", instead):
            yield
    finally:
        emulated.unwritten = written


def cost(work: Callable[[], Any], times: int, rounds: int) -> tuple[float, float]:
    """CPU microseconds of a call of `work`: median, least of `rounds` rounds of `times` calls."""
    found = []
    for _ in range(rounds):
        start = time.thread_time_ns()
        for _ in range(times):
            work()
        found.append((time.thread_time_ns() - start) / times / 1e3)
    return statistics.median(found), min(found)


def loop_step() -> Callable[[], Any]:
    """One training step of LeNet-5 as `fit` does it: images by their labels, loss and accuracy."""
    rng = np.random.default_rng(0)
    model = models.lenet5(seed=0, device="emu")
    model.compile(
        optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy", ["accuracy"]
    )
    x = rng.integers(0, 256, (BATCH, 28, 28, 1)).astype(np.float32)
    y = rng.integers(0, 10, BATCH)
    return lambda: loop.train_step(model, model.to_device(x), y)


def public_step() -> Callable[[], Any]:
    """The same by the public API: loss, gradients, SGD with momentum."""
    _, step = training(asdict(lenet(BATCH)), "lenet", "emu")
    return step


def count(step: Callable[[], Any]) -> dict[str, int]:
    """What one step does: launches, their scalars, look-ups of devices, calls of functions."""
    recorder, calls = engine.Recorder(), Counter[str]()

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            calls["calls"] += 1
            calls[LOOKUPS.get(frame.f_code, "other")] += 1

    with engine_in_place(recorder):
        step()
        recorder.calls.clear()
        sys.setprofile(profile)
        try:
            step()
        finally:
            sys.setprofile(None)
    return {
        "launches": len(recorder.calls),
        "scalars": sum(_numbers(a) for call in recorder.calls for a in call.arguments),
        "device look-ups": sum(calls[name] for name in LOOKUPS.values()),
        "calls of Python functions": calls["calls"],
    }


def _numbers(argument: Any) -> int:
    """How many numbers a kernel gets by value in one argument: a struct holds several."""
    if isinstance(argument, np.ndarray):
        return len(argument.dtype.names or ())
    return int(isinstance(argument, np.generic))


def launches_of(step: Callable[[], Any]) -> list[Callable[[], None]]:
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


def measure(rounds: int = 25) -> dict[str, dict[str, float]]:
    """What a step takes and what it does, by name, for a loop of one's own and for `fit`'s."""
    figures: dict[str, dict[str, float]] = {}
    with engine_in_place(Nothing()):
        for name, make in (("public API", public_step), ("fit", loop_step)):
            step = make()
            for _ in range(5):
                step()
            medians, least = zip(*(cost(one, 20, rounds) for one in launches_of(step)))
            whole = cost(step, 2, 4 * rounds)
            figures[name] = {
                "ms a step": whole[0] / 1e3,
                "ms a step, least": whole[1] / 1e3,
                "µs a launch": statistics.mean(medians),
                "µs a launch, least": statistics.mean(least),
                "µs, dearest launch": max(medians),
                **count(step),
            }
    return figures


def lines(figures: dict[str, dict[str, float]]) -> list[str]:
    """The figures as a table."""
    first = f"LeNet-5, batch {BATCH}: a training step's host work"
    shown = [f"{first:48}" + "".join(f"{name:>12}" for name in figures)]
    for row in next(iter(figures.values())):
        cells = [of[row] for of in figures.values()]
        texts = [f"{c:12.2f}" if isinstance(c, float) else f"{c:12}" for c in cells]
        shown.append(f"{row:48}" + "".join(texts))
    return shown
