"""Every layer of the suites under pytest-benchmark, against PyTorch where that is installed.

`pytest bench -n 0 [-k TEXT]`: each is raced as `gpukit race --suite` does it, the figures in the
JSON's extra_info; then pytest-benchmark's own figures of gpukit's side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest

from gpukit.device import CPU
from gpukit.dispatch.declaration import Problem
from gpukit.dispatch.primitive import registry
from gpukit.race import rivals
from gpukit.race.ceilings import ceilings
from gpukit.race.contest import Outcome, Race, run
from gpukit.race.on_host import BATCH, HostClock
from gpukit.race.problems import ALL, suite


@pytest.fixture(scope="session")
def rival() -> Iterator[dict[str, rivals.Rival]]:
    """PyTorch, where it is there."""
    if rivals.missing():
        yield {}
        return
    with rivals.HostRival() as worker:
        yield {"torch": worker}


@pytest.mark.parametrize(
    "problem",
    [pytest.param(p, id=f"{p.primitive}-{p.layer}") for p in suite(ALL, BATCH)],
)
def test_speed(benchmark: Any, problem: Problem, rival: dict[str, rivals.Rival]) -> None:
    outcome = Outcome(ceilings(CPU))
    run(Race([problem], CPU, HostClock(), [], rival), outcome)
    assert outcome.ok, outcome.refused
    benchmark.extra_info.update({row.name: asdict(row) for row in outcome.rows})
    benchmark.group = problem.primitive
    call, passed = registry[problem.primitive], problem.passed(problem.arrays(1))
    benchmark.pedantic(lambda: call(*passed, **problem.settings), rounds=7, warmup_rounds=2)
