"""Rivals of gpukit: PyTorch in a worker process, or in this process on the same card."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from typing import Any, Protocol

import numpy as np
from safetensors.numpy import load_file

from gpukit.core.process import WorkerProcess
from gpukit.dispatch.declaration import Problem
from gpukit.errors import GpukitError

RIVALS = {"torch": False, "torch-compiled": True}  # and whether torch.compile takes part
PAUSE_S = 0.005  # PyTorch's OpenMP threads spin for a while after a call
LACKING = {"philox": "PyTorch's random numbers are no function of their place"}


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


def check_lacking(problem: Problem) -> None:
    """RivalError where PyTorch has nothing like the primitive."""
    if problem.primitive in LACKING:
        raise RivalError(LACKING[problem.primitive])


class HostRival(WorkerProcess):
    """PyTorch on the CPU, in a process that starts here; a context manager that ends it."""

    def __init__(self, compiled: bool = False) -> None:
        self._compiled = compiled
        self._folder = tempfile.TemporaryDirectory(prefix="gpukit-race-")
        super().__init__("gpukit.race.torch_rival")

    def close(self) -> None:
        super().close()
        self._folder.cleanup()

    def _told(self, do: str, **order: Any) -> dict[str, Any]:
        answer = self.ask(do, **order)
        if answer is None:
            said = self.text().strip().splitlines()
            raise RivalError(f"PyTorch's process ended: {said[-1] if said else 'without a word'}")
        if "error" in answer:
            raise RivalError(f"PyTorch cannot: {answer['error']}")
        return answer

    def describe(self) -> dict[str, Any]:
        return self._told("describe")

    def prepare(self, problem: Problem) -> None:
        """Give it the problem, with the numbers that are timed here."""
        check_lacking(problem)
        self._told(
            "prepare",
            primitive=problem.primitive,
            sizes=list(problem.sizes),
            compiled=self._compiled,
        )

    def result(self) -> list[np.ndarray | None]:
        """Its results, through a file."""
        file = f"{self._folder.name}/results"
        count = self._told("result", file=file)["count"]
        found = load_file(file)
        return [found.get(str(i)) for i in range(count)]

    def fastest(self) -> str:
        return str(self._told("fastest")["variant"])

    def seconds(self) -> float:
        """Of one run, by its own clock; then a pause for its threads to fall asleep."""
        took = float(self._told("seconds")["seconds"])
        time.sleep(PAUSE_S)
        return took
