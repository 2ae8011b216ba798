"""Every benchmark under pytest-benchmark, against PyTorch where that is installed.

`pytest bench -n 0 [-k TEXT]`: gpukit and PyTorch in turns, the ratios in the summary and in the
JSON's extra_info; then pytest-benchmark's own figures of gpukit's side.
"""

from __future__ import annotations

from typing import Any

import pytest

from bench import ours
from bench.__main__ import GROUPS
from bench.duel import Result, duel
from bench.rival import Rival

_TASKS = [
    pytest.param(task, case, id=f"{task}-{case.name}")
    for tasks in GROUPS.values()
    for task, shapes in tasks
    for case in shapes
]


@pytest.mark.parametrize(("task", "case"), _TASKS)
def test_speed(
    benchmark: Any, task: str, case: Any, rival: Rival | None, record: list[Result]
) -> None:
    run = getattr(ours, task)(case)
    if rival is not None:
        flop = getattr(case, "gflop", None)
        result = duel(task, case.name, run, rival, task, case, gflop=flop)
        record.append(result)
        benchmark.extra_info.update(result.as_dict())
    benchmark.group = task
    benchmark.pedantic(run, rounds=7, warmup_rounds=2)
