"""PyTorch in a worker process, so that its threads and gpukit's never compete for the cores.

    python -m gpukit.race.torch_worker

Serves orders (core/process.py). The process sleeps between orders and times itself, so the pipe
costs nothing that counts.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from gpukit.core import process
from gpukit.race import torch_variants
from gpukit.race.problems import problem


class Worker:
    """The problem that was prepared last."""

    def __init__(self) -> None:
        self._variants: dict[str, torch_variants.Variant] = {}
        self._back: Any = None

    def describe(self) -> dict[str, Any]:
        """Version and threads."""
        return torch_variants.describe()

    def prepare(
        self, primitive: str, sizes: list[int], seed: int, compiled: bool
    ) -> dict[str, Any]:
        """The names of the variants to solve a problem."""
        made = problem(primitive, tuple(sizes))
        self._variants, self._back = torch_variants.variants(
            made, made.arrays(seed), "cpu", compiled
        )
        return {"variants": list(self._variants)}

    def result(self, variant: str, file: str) -> dict[str, Any]:
        """Write a variant's results to a file, one array after another; their dtypes and shapes."""
        made: list[tuple[str, tuple[int, ...]] | None] = []
        with Path(file).open("wb") as out:
            for array in self._back(self._variants[variant]()):
                made.append(None if array is None else (array.dtype.name, array.shape))
                if array is not None:
                    array.tofile(out)
        return {"arrays": made}

    def run(self, variant: str) -> dict[str, Any]:
        """Seconds of the second of two runs: gpukit has used the caches since the last."""
        task = self._variants[variant]
        task()
        start = time.perf_counter()
        task()
        return {"seconds": time.perf_counter() - start}


if __name__ == "__main__":
    worker = Worker()
    process.serve(
        {
            "describe": worker.describe,
            "prepare": worker.prepare,
            "result": worker.result,
            "run": worker.run,
        }
    )
