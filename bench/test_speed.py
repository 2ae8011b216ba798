"""gpukit's side of every benchmark under pytest-benchmark: `pytest bench -n 0`."""

from __future__ import annotations

from typing import Any

import pytest

from bench import ours
from bench.__main__ import GROUPS

_TASKS = [
    pytest.param(task, case, id=f"{task}-{case.name}")
    for tasks in GROUPS.values()
    for task, shapes in tasks
    for case in shapes
]


@pytest.mark.parametrize(("task", "case"), _TASKS)
def test_speed(benchmark: Any, task: str, case: Any) -> None:
    benchmark.group = task
    benchmark.pedantic(getattr(ours, task)(case), rounds=7, warmup_rounds=2)
