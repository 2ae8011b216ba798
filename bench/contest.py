"""Entrants of a contest of whole networks, each in a worker process, so that memory is its own too.

An entrant's side is a function "module:function" that returns `(check, run)`: `check()` gives
figures that all entrants must agree on, `run()` does once what is timed.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gpukit.core import process
from gpukit.race.contest import VOID_SPREAD, spread
from gpukit.race.rivals import PAUSE_S

BRIEF_S = 0.1  # a shorter run counts the second time: the others have used the caches


@dataclass(frozen=True)
class Result:
    """Medians in milliseconds; `ratio` below 1 means that gpukit is faster.

    The most memory that each process held, or on a card each one's pool, in 10⁶ bytes, is there for
    whole networks only.
    """

    group: str
    name: str
    ours_ms: float
    theirs_ms: float
    ratio: float
    spread: float
    rounds: int
    variant: str
    gflop: float | None = None
    ours_mb: float | None = None
    theirs_mb: float | None = None

    @classmethod
    def of(
        cls,
        group: str,
        name: str,
        ours: Sequence[float],
        theirs: Sequence[float],
        variant: str,
        per: int = 1,
        **more: Any,
    ) -> Result:
        """Of the seconds of each round, in which `per` pieces were done."""
        mine, other = statistics.median(ours), statistics.median(theirs)
        return cls(
            group=group,
            name=name,
            ours_ms=mine / per * 1e3,
            theirs_ms=other / per * 1e3,
            ratio=mine / other,
            spread=max(spread(ours), spread(theirs)),
            rounds=len(ours),
            variant=variant,
            **more,
        )

    @property
    def void(self) -> bool:
        """Whether the times scatter too much to say anything."""
        return self.spread > VOID_SPREAD

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "void": self.void}


class Worker(process.WorkerProcess):
    """A worker process of a module of this checkout; `name` is its name in errors."""

    def __init__(self, name: str, module: str) -> None:
        self.name = name
        super().__init__(module, variables={"PYTHONPATH": os.pathsep.join(sys.path)})

    def told(self, do: str, **order: Any) -> dict[str, Any]:
        """Its reply to an order; RuntimeError where it fails or the process ended."""
        reply = self.ask(do, **order)
        if reply is None:
            said = "\n".join(self.printed())
            raise RuntimeError(f"{self.name}: the process ended; was memory short?\n{said}")
        if "error" in reply:
            raise RuntimeError(f"{self.name}: {reply['error']}")
        return reply


class Contestant(Worker):
    """A worker process that makes a side, `function(*arguments)`, and runs it when asked."""

    def __init__(self, name: str, function: str, *arguments: Any) -> None:
        super().__init__(name, "bench.contest")
        self.told("make", function=function, arguments=arguments)

    def check(self) -> list[float]:
        """The figures to agree on."""
        return list(self.told("check")["figures"])

    def run(self) -> float:
        """Seconds of one run by its own clock; then a pause for its threads to fall asleep."""
        took = float(self.told("run")["seconds"])
        time.sleep(PAUSE_S)
        return took

    def peak_mb(self) -> float:
        """The most memory (10⁶ bytes) that the process held since its check began."""
        return float(self.told("peak")["mb"])


class _Side:
    """In the worker process: what it was told to make."""

    def make(self, function: str, arguments: list[Any]) -> dict[str, Any]:
        self._check, self._run = made(function, *arguments)
        return {}

    def check(self) -> dict[str, Any]:
        with contextlib.suppress(OSError):  # the peak begins anew: setting up is not measured
            Path("/proc/self/clear_refs").write_text("5")
        return {"figures": self._check()}

    def run(self) -> dict[str, Any]:
        took = seconds(self._run)
        return {"seconds": seconds(self._run) if took < BRIEF_S else took}

    def peak(self) -> dict[str, Any]:
        with contextlib.suppress(OSError):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM"):
                    return {"mb": int(line.split()[1]) * 1024 / 1e6}
        return {"mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6}


def made(function: str, *arguments: Any) -> tuple[Callable[[], list[float]], Callable[[], Any]]:
    """A side by the name of its function."""
    module, name = function.split(":")
    check, run = getattr(importlib.import_module(module), name)(*arguments)
    return check, run


def seconds(run: Callable[[], Any]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def agree(name: str, figures: Sequence[float], wanted: Sequence[float], limit: float) -> None:
    """AssertionError where an entrant's figures differ by more than `limit` of the largest."""
    limit *= max(map(abs, wanted))
    for mine, other in zip(figures, wanted, strict=True):
        if not abs(mine - other) <= limit:
            raise AssertionError(f"{name} computes {figures}, the others {list(wanted)}")


def alternate(runs: Sequence[Callable[[], float]], rounds: int) -> list[list[float]]:
    """The seconds that each run says it took, all in turns, `rounds` times after a first one."""
    times = [[run() for run in runs] for _ in range(rounds + 1)]
    return [list(measured) for measured in zip(*times[1:])]


def contest(group: str, case: str, ours: Sequence[Any], rival: Any, rounds: int) -> list[Result]:
    """Time entrants in turns, `rounds` times; one result for each of `ours`."""
    theirs, *times = alternate([one.run for one in (rival, *ours)], rounds)
    return [
        Result.of(
            group,
            f"{one.name}-{case}",
            measured,
            theirs,
            rival.name,
            ours_mb=round(one.peak_mb()),
            theirs_mb=round(rival.peak_mb()),
        )
        for one, measured in zip(ours, times)
    ]


if __name__ == "__main__":
    side = _Side()
    process.serve({"make": side.make, "check": side.check, "run": side.run, "peak": side.peak})
