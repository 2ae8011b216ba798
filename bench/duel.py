"""Two rivals, one after the other, again and again: medians, spread and ratio."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from bench.rival import Rival
from gpukit.race.contest import VOID_SPREAD, spread

# PyTorch's OpenMP threads spin for a while after a call; gpukit's turn starts after that.
PAUSE_S = 0.005
# Rounds go on until both have had so much time, within these bounds.
_LEAST_ROUNDS, _MOST_ROUNDS, _SECONDS = 9, 101, 1.0


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
    way: str
    gflop: float | None = None
    ours_mb: float | None = None
    theirs_mb: float | None = None

    @property
    def void(self) -> bool:
        """Whether the times scatter too much to say anything."""
        return self.spread > VOID_SPREAD

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "void": self.void}


def duel(
    group: str,
    name: str,
    ours: Callable[[], Any],
    rival: Rival,
    task: str,
    case: Any,
    compiled: bool = False,
    gflop: float | None = None,
) -> Result:
    """Time `ours` and the fastest of PyTorch's ways to do `task` on `case`, alternating."""
    way = rival.fastest(rival.prepare(task, case, compiled))
    for _ in range(3):
        ours()
    mine: list[float] = []
    theirs: list[float] = []
    while len(mine) < _LEAST_ROUNDS or (
        len(mine) < _MOST_ROUNDS and min(sum(mine), sum(theirs)) < _SECONDS
    ):
        # The caches are cold after the other's turn: each runs twice, and the second run counts.
        rival.run(way)
        theirs.append(rival.run(way))
        time.sleep(PAUSE_S)
        ours()
        start = time.perf_counter()
        ours()
        mine.append(time.perf_counter() - start)
    ours_s, theirs_s = statistics.median(mine), statistics.median(theirs)
    return Result(
        group=group,
        name=name,
        ours_ms=ours_s * 1e3,
        theirs_ms=theirs_s * 1e3,
        ratio=ours_s / theirs_s,
        spread=max(spread(mine), spread(theirs)),
        rounds=len(mine),
        way=way,
        gflop=gflop,
    )
