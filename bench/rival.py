"""PyTorch in a process of its own, so that its threads and gpukit's never share a process.

The worker sleeps on a pipe between calls; it times itself, so the pipe costs nothing that counts.
Each task is offered in the ways that users know to be fast (contiguous, channels_last, compiled),
and the fastest is the rival.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from bench import torch_tasks


def _serve(pipe: Connection) -> None:
    ways: dict[str, Callable[[], Any]] = {}
    while True:
        command, argument = pipe.recv()
        if command == "stop":
            return
        try:
            if command == "prepare":
                task, case, compiled = argument
                ways = torch_tasks.prepare(task, case, compiled)
                pipe.send(list(ways))
            elif command == "run":
                start = time.perf_counter()
                ways[argument]()
                pipe.send(time.perf_counter() - start)
            else:
                pipe.send(torch_tasks.describe())
        except Exception as error:
            pipe.send(error)


class Rival:
    """The worker process; use as a context manager."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()

    def __enter__(self) -> Rival:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.send(("stop", None))
        self._process.join(10)

    def _ask(self, command: str, argument: Any = None) -> Any:
        self._pipe.send((command, argument))
        answer = self._pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def describe(self) -> dict[str, Any]:
        """Version and threads of PyTorch."""
        return dict(self._ask("describe"))

    def prepare(self, task: str, case: Any, compiled: bool = False) -> list[str]:
        """Set up a task on a case; the names of the ways to run it."""
        return list(self._ask("prepare", (task, case, compiled)))

    def run(self, way: str) -> float:
        """Seconds of one run."""
        return float(self._ask("run", way))

    def fastest(self, ways: list[str], rounds: int = 3) -> str:
        """The way with the shortest run, after a warm-up."""
        best: dict[str, float] = {}
        for way in ways:
            for _ in range(2):
                self.run(way)
            best[way] = min(self.run(way) for _ in range(rounds))
        return min(best, key=lambda way: best[way])
