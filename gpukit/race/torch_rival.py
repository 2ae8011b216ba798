"""PyTorch as a rival in this process: on a card beside gpukit, on the CPU in a worker process.

    python -m gpukit.race.torch_rival

The worker serves the calls of `Rival` (core/process.py): its threads and gpukit's never compete for
the cores. It sleeps between orders and times itself, so the pipe costs nothing that counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from gpukit.core import process
from gpukit.dispatch.declaration import Problem
from gpukit.errors import DeviceError
from gpukit.race import on_host, torch_variants
from gpukit.race.problems import problem
from gpukit.race.proof import SEEDS
from gpukit.race.rivals import check_lacking

_TRIES = 3


class TorchRival:
    """A Rival on `device`, which `clock` times."""

    def __init__(self, compiled: bool, clock: Any, device: str = "cpu") -> None:
        self._compiled = compiled
        self._device = device
        self._clock = clock
        self._variants: dict[str, torch_variants.Variant] = {}
        self._back: Any = None
        self._variant = ""

    def describe(self) -> dict[str, Any]:
        return {"torch": torch.__version__, "threads": torch.get_num_threads()}

    def prepare(self, problem: Problem) -> None:
        """Make the numbers that are timed, on the device."""
        check_lacking(problem)
        self._variants, self._back = torch_variants.variants(
            problem, problem.arrays(SEEDS[1]), self._device, self._compiled
        )
        self._variant = next(iter(self._variants))

    def result(self) -> list[np.ndarray | None]:
        """What the variant that `seconds` takes makes, as gpukit has it."""
        found: list[np.ndarray | None] = self._back(self._variants[self._variant]())
        return found

    def fastest(self) -> str:
        best: dict[str, float] = {}
        for name in self._variants:
            self._variant = name
            self.seconds()  # compiles, chooses an algorithm
            best[name] = min(self.seconds() for _ in range(_TRIES))
        self._variant = min(best, key=lambda variant: best[variant])
        return self._variant

    def seconds(self) -> float:
        return float(self._clock.seconds(self._variants[self._variant]))

    def close(self) -> None:
        """Let its memory go."""
        self._variants = {}


class CardRival(TorchRival):
    """PyTorch on a card in float32, as gpukit computes, cuDNN's search for algorithms switched on.

    Both use the card's default stream.
    """

    def __init__(self, compiled: bool, clock: Any, index: int) -> None:
        super().__init__(compiled, clock, f"cuda:{index}")
        in_float32()
        if torch.cuda.current_stream(index).cuda_stream:
            raise DeviceError("PyTorch uses a stream of its own here; events would mean nothing")

    def describe(self) -> dict[str, Any]:
        return {
            "torch": torch.__version__,
            "cudnn": torch.backends.cudnn.version(),
            "tf32": False,
            "cudnn_benchmark": True,
        }


def in_float32() -> None:
    """On cards: TF32 off, and cuDNN searches for its fastest algorithm."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True


class _Worker(TorchRival):
    """In the worker process: the same, with arguments and results that JSON can hold."""

    def prepared(self, primitive: str, sizes: list[int], compiled: bool) -> dict[str, Any]:
        self._compiled = compiled
        self.prepare(problem(primitive, tuple(sizes)))
        return {}

    def written(self, file: str) -> dict[str, Any]:
        """Write the results to a file by their numbers; how many there are."""
        results = self.result()
        save_file({str(i): a for i, a in enumerate(results) if a is not None}, file)
        return {"count": len(results)}


if __name__ == "__main__":
    worker = _Worker(False, on_host.HostClock())
    process.serve(
        {
            "describe": worker.describe,
            "prepare": worker.prepared,
            "result": worker.written,
            "fastest": lambda: {"variant": worker.fastest()},
            "seconds": lambda: {"seconds": worker.seconds()},
        }
    )
