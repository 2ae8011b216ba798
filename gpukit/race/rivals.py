"""Rivals of gpukit: PyTorch in a worker process, or in this process on the same card."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gpukit.core.blocks import Closing
from gpukit.core.process import WorkerProcess
from gpukit.device import Device
from gpukit.dispatch.declaration import Problem
from gpukit.errors import DeviceError, GpukitError
from gpukit.race import torch_variants
from gpukit.race.on_card import CardClock
from gpukit.race.proof import SEEDS

RIVALS = {"torch": False, "torch-compiled": True}  # and whether torch.compile takes part
PAUSE_S = 0.005  # PyTorch's OpenMP threads spin for a while after a call
_TRIES = 3


class RivalError(GpukitError):
    """A rival cannot solve a problem, or its process ended."""


class Rival(Protocol):
    """A rival: `prepare` a problem, look at its `result`, and time it."""

    def describe(self) -> dict[str, Any]:
        """Versions and settings."""

    def prepare(self, problem: Problem) -> None:
        """Get ready for a problem, RivalError where it cannot."""

    def result(self) -> list[np.ndarray | None]:
        """What comes out, as gpukit has it."""

    def fastest(self) -> str:
        """The name of the fastest variant, which `seconds` takes from now on."""

    def seconds(self) -> float:
        """Of one run."""

    def close(self) -> None:
        """End its process, if any."""


def missing() -> str:
    """Why PyTorch cannot take part; empty if it can."""
    if importlib.util.find_spec("torch") is None:
        return "PyTorch is not installed (pip install torch)"
    return ""


def rival(name: str, device: Device, clock: Any) -> Rival:
    """The rival called `name` on a device."""
    if device.kind == "cuda":
        return CardRival(RIVALS[name], device, clock)
    return HostRival(RIVALS[name])


def _fastest(variants: list[str], seconds: Callable[[str], float]) -> str:
    best: dict[str, float] = {}
    for variant in variants:
        seconds(variant)  # compiles, chooses an algorithm
        best[variant] = min(seconds(variant) for _ in range(_TRIES))
    return min(best, key=lambda variant: best[variant])


class HostRival(Closing):
    """PyTorch on the CPU, in a process that starts here; a context manager that ends it."""

    def __init__(self, compiled: bool = False) -> None:
        self._compiled = compiled
        self._variants: list[str] = []
        self._variant = ""
        self._folder = tempfile.TemporaryDirectory(prefix="gpukit-race-")
        self._worker = WorkerProcess("gpukit.race.torch_worker")

    def close(self) -> None:
        """End the process."""
        self._worker.close()
        self._folder.cleanup()

    def _ask(self, do: str, **order: Any) -> dict[str, Any]:
        answer = self._worker.ask(do, **order)
        if answer is None:
            said = self._worker.text().strip().splitlines()
            raise RivalError(f"PyTorch's process ended: {said[-1] if said else 'without a word'}")
        if "error" in answer:
            raise RivalError(f"PyTorch cannot: {answer['error']}")
        return answer

    def describe(self) -> dict[str, Any]:
        """Version and threads."""
        return self._ask("describe")

    def prepare(self, problem: Problem) -> None:
        """Give it the problem, with the numbers that are timed here."""
        _check_lacking(problem)
        answer = self._ask(
            "prepare",
            primitive=problem.primitive,
            sizes=list(problem.sizes),
            seed=SEEDS[1],
            compiled=self._compiled,
        )
        self._variants = answer["variants"]
        self._variant = self._variants[0]

    def result(self) -> list[np.ndarray | None]:
        """Its results, through a file."""
        file = Path(self._folder.name) / "result"
        made = self._ask("result", variant=self._variant, file=str(file))["arrays"]
        found: list[np.ndarray | None] = []
        with file.open("rb") as source:
            for one in made:
                if one is None:
                    found.append(None)
                    continue
                dtype, shape = one
                count = math.prod(shape)
                found.append(np.fromfile(source, dtype, count).reshape(shape))
        file.unlink()
        return found

    def fastest(self) -> str:
        """Try all variants."""
        self._variant = _fastest(
            self._variants, lambda variant: float(self._ask("run", variant=variant)["seconds"])
        )
        return self._variant

    def seconds(self) -> float:
        """Of one run, by its own clock; then a pause for its threads to fall asleep."""
        took = float(self._ask("run", variant=self._variant)["seconds"])
        time.sleep(PAUSE_S)
        return took


class CardRival:
    """PyTorch on the card, in this process: both use the card's default stream."""

    def __init__(self, compiled: bool, device: Device, clock: CardClock) -> None:
        import torch

        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True
        if torch.cuda.current_stream(device.index).cuda_stream:
            raise DeviceError("PyTorch uses a stream of its own here; events would mean nothing")
        self._compiled = compiled
        self._device = device
        self._clock = clock
        self._variants: dict[str, torch_variants.Variant] = {}
        self._back: Any = None
        self._variant = ""

    def describe(self) -> dict[str, Any]:
        """Versions and settings."""
        import torch

        return {
            "torch": torch.__version__,
            "cudnn": torch.backends.cudnn.version(),
            "tf32": False,
            "cudnn_benchmark": True,
        }

    def prepare(self, problem: Problem) -> None:
        """Copy the numbers that are timed to the card."""
        _check_lacking(problem)
        name = f"cuda:{self._device.index}"
        with _what_it_cannot():
            host = problem.arrays(SEEDS[1])
            self._variants, self._back = torch_variants.variants(
                problem, host, name, self._compiled
            )
        self._variant = next(iter(self._variants))

    def result(self) -> list[np.ndarray | None]:
        """Its results, copied back."""
        with _what_it_cannot():
            found: list[np.ndarray | None] = self._back(self._variants[self._variant]())
        return found

    def fastest(self) -> str:
        """Try all variants."""
        with _what_it_cannot():
            self._variant = _fastest(
                list(self._variants), lambda variant: self._clock.seconds(self._variants[variant])
            )
        return self._variant

    def seconds(self) -> float:
        """Of one run, between events."""
        return self._clock.seconds(self._variants[self._variant])

    def close(self) -> None:
        """Let its memory go."""
        self._variants = {}


@contextlib.contextmanager
def _what_it_cannot() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise RivalError(f"PyTorch cannot: {error}") from error


def _check_lacking(problem: Problem) -> None:
    if problem.primitive in torch_variants.LACKING:
        raise RivalError(torch_variants.LACKING[problem.primitive])
