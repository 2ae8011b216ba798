"""Peak figures of a device, and which results exceed them.

A result faster than the peaks by more than a margin was not computed in that time. The least time
of a call is the longest of

    operations, those on padding left out, at the fastest matrix product measured
    bytes that no cache can hold, at the fastest of copy, read and fill measured
    all bytes, on the CPU, at the fastest of these within the caches of all threads
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gpukit.dispatch.declaration import Problem

MARGIN = 0.25
# Algorithms that need fewer operations than the definition are known by their names. What they can
# save at most is all but one of the products at each output (Winograd, 1980).
FEWER_OPERATIONS = ("fft", "winograd")


@dataclass(frozen=True)
class Ceilings:
    """Figures of one device.

    `gflops`: 10⁹ float32 operations a second in a large matrix product; `gbps`: 10⁹ bytes a second
    read and written by a large copy. `most_gflops` and `most_gbps`: the fastest of any kind, what
    no result can pass. `cache`: bytes of the last cache, and `cached_gbps` what can be moved within
    the caches, 0 where nobody measured it. `flushed`: whether caches are emptied before each timed
    run, as on cards. `how`: what was run.
    """

    gflops: float
    gbps: float
    most_gflops: float
    most_gbps: float
    cache: int
    flushed: bool = False
    how: str = ""
    cached_gbps: float = 0.0

    def floor(self, problem: Problem) -> float:
        """Seconds: operations at the matrix product's speed or bytes at the copy's, the longer;
        bytes that the cache holds at the cache's."""
        gbps = max(self.gbps, self.cached_gbps) if self.in_cache(problem) else self.gbps
        return max(problem.flop / self.gflops, problem.bytes / gbps) / 1e9

    def in_cache(self, problem: Problem) -> bool:
        """Whether all that the problem moves fits into the cache and may stay there."""
        return problem.bytes <= self.cache and not self.flushed

    def impossible(
        self, problem: Problem, name: str, seconds: float, margin: float = MARGIN
    ) -> str:
        """Why nobody can have solved the problem in that time; empty if somebody can."""
        flop = problem.least_flop
        if any(word in name.lower() for word in FEWER_OPERATIONS):
            flop //= _most_saved(problem)
        beyond = 1 + margin
        if flop / 1e9 > seconds * self.most_gflops * beyond:
            return (
                f"{_rate(flop, seconds)} GFLOP/s, where this device was measured to do "
                f"{self.most_gflops:.4g}: a kernel that does not do the work (one that needs fewer "
                f"operations says so by {' or '.join(FEWER_OPERATIONS)} in its name)"
            )
        moved = self._uncached(problem)
        if moved / 1e9 > seconds * self.most_gbps * beyond:
            return (
                f"{_rate(moved, seconds)} GB/s for the {moved / 1e6:.4g} MB that no cache holds, "
                f"where this device was measured to move {self.most_gbps:.4g}: a kernel that does "
                "not do the work"
            )
        most = max(self.cached_gbps, self.most_gbps)
        if self.cached_gbps and problem.bytes / 1e9 > seconds * most * beyond:
            return (
                f"{_rate(problem.bytes, seconds)} GB/s, where this device was measured to move "
                f"{most:.4g} within its caches: a kernel that does not do the work"
            )
        return ""

    def _uncached(self, problem: Problem) -> int:
        if self.flushed:
            return problem.read + max(problem.written - self.cache, 0)
        return max(problem.bytes - self.cache, 0)

    def highest(self, other: Ceilings) -> Ceilings:
        """The higher figure of each."""
        figures = ("gflops", "gbps", "most_gflops", "most_gbps", "cached_gbps")
        return replace(self, **{n: max(getattr(self, n), getattr(other, n)) for n in figures})


def _most_saved(problem: Problem) -> int:
    if "conv" not in problem.settings:
        return 1
    r, s = problem.sizes[5:7]
    stride = problem.settings["conv"].stride
    return int(-(-r // stride[0]) * -(-s // stride[1]))


def _rate(amount: int, seconds: float) -> str:
    return f"{amount / 1e9 / seconds:.4g}" if seconds > 0 else "infinitely many"
