"""Whole networks against each other, each in a process of its own, so that memory is its own too.

A contestant is a function "module:function" that returns `(check, run)`: `check()` gives figures
that all contestants must agree on, `run()` does once what is timed.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import resource
import statistics
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.duel import PAUSE_S, Result, spread


class Contestant:
    """A process that makes `function(*arguments)` and runs it when asked; a context manager."""

    def __init__(self, name: str, function: str, *arguments: Any) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, function, arguments))
        self._process.daemon = True
        self._process.start()

    def __enter__(self) -> Contestant:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        if self._process.is_alive():
            self._pipe.send("stop")
            self._process.join(20)
            self._process.kill()

    def _ask(self, command: str) -> Any:
        self._pipe.send(command)
        try:
            answer = self._pipe.recv()
        except EOFError:
            raise RuntimeError(f"{self.name}: the process ended; was memory short?") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def check(self) -> list[float]:
        """The figures to agree on."""
        return list(self._ask("check"))

    def run(self) -> float:
        """Seconds of one run."""
        return float(self._ask("run"))

    def peak_mb(self) -> float:
        """The most memory (10⁶ bytes) that the process held since its check began."""
        return float(self._ask("peak"))


def _serve(pipe: Connection, function: str, arguments: tuple[Any, ...]) -> None:
    try:
        module, name = function.split(":")
        check, run = getattr(importlib.import_module(module), name)(*arguments)
    except Exception as error:
        pipe.recv()
        pipe.send(error)
        return
    while (command := pipe.recv()) != "stop":
        try:
            if command == "check":
                _forget_peak()
                pipe.send(check())
            elif command == "run":
                start = time.perf_counter()
                run()
                pipe.send(time.perf_counter() - start)
            else:
                pipe.send(_peak_mb())
        except Exception as error:
            pipe.send(error)


def _forget_peak() -> None:
    """Let the peak begin anew, where the system can: setting up is not what is measured."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mb() -> float:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def agree(name: str, figures: Sequence[float], wanted: Sequence[float], limit: float) -> None:
    """AssertionError where a contestant's figures differ by more than `limit` of the largest."""
    limit *= max(map(abs, wanted))
    for mine, other in zip(figures, wanted, strict=True):
        if not abs(mine - other) <= limit:
            raise AssertionError(f"{name} computes {figures}, the others {list(wanted)}")


def contest(
    group: str,
    case: str,
    ours: Sequence[Contestant],
    rival: Contestant,
    rounds: int,
    gflop: float | None = None,
) -> list[Result]:
    """Time all in turns, `rounds` times; one result for each of `ours`."""
    everybody = [rival, *ours]
    times: list[list[float]] = [[] for _ in everybody]
    for one in everybody:
        one.run()
    for _ in range(rounds):
        for one, measured in zip(everybody, times):
            measured.append(one.run())
            # OpenMP's threads spin for a while after a call.
            time.sleep(PAUSE_S)
    theirs = statistics.median(times[0])
    results = []
    for one, measured in zip(ours, times[1:]):
        median = statistics.median(measured)
        results.append(
            Result(
                group=group,
                name=f"{one.name}-{case}",
                ours_ms=median * 1e3,
                theirs_ms=theirs * 1e3,
                ratio=median / theirs,
                spread=max(spread(measured), spread(times[0])),
                rounds=rounds,
                way=rival.name,
                gflop=gflop,
                ours_mb=round(one.peak_mb()),
                theirs_mb=round(rival.peak_mb()),
            )
        )
    return results
