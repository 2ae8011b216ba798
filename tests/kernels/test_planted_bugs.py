"""Each class of bug, planted in a kernel, is caught by the checker meant for it; without the bug
the same kernel raises no alarm."""

# ruff: noqa: E501  (tables, a case a line)
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpukit.emulator import compiler_problem
from gpukit.emulator.check import check
from gpukit.launch.kernel import Kernel

pytestmark = pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())

PLANTED = Path(__file__).parent / "planted"

X = np.arange(1, 129, dtype=np.float32)
NAN = np.full(128, np.nan, np.float32)
THREE = np.tile(X, 3)


@dataclass(frozen=True)
class Bug:
    """A planted bug: its launch, the checker meant for it, and words of what that must say."""

    kernel: str
    grid: int
    block: int
    arguments: tuple[Any, ...]
    mode: str
    finding: str
    words: tuple[str, ...]

    def check(self, bug: bool, **settings: Any) -> Any:
        file, name = self.kernel.split(":")
        kernel = Kernel(PLANTED / f"{file}.cu", name)
        return check(
            kernel,
            self.grid,
            self.block,
            self.arguments,
            mode=self.mode,
            shared=4 * self.block if "dynamic" in name else 0,
            BUG=bug,
            **settings,
        )


S = 64
BUGS = [
    Bug("memory:shared_overrun", 1, S, (X[:S], NAN[:S]), "asan", "ubsan", ("memory.cu:15", "(63,0,0)")),
    Bug("memory:shared_overrun", 1, S, (X[:S], NAN[:S]), "plain", "fault", ("shared array tile",)),
    Bug("memory:dynamic_overrun", 1, S, (X[:S], NAN[:S]), "asan", "asan", ("heap-buffer-overflow",)),
    Bug("memory:global_overrun", 3, 32, (X[:70], NAN[:70], 70), "asan", "asan", ("memory.cu:", "block (2,0,0), thread (6,0,0)")),
    Bug("memory:global_overrun", 3, 32, (X[:70], NAN[:70], 70), "plain", "fault", ("4 bytes behind the end of its argument y",)),
    Bug("memory:underrun", 3, 32, (X[:70], NAN[:70], 70), "plain", "fault", ("4 bytes before the start of its argument y",)),
    Bug("memory:inner_overrun", 1, 32, (X[:32], NAN[:32]), "asan", "ubsan", ("index 8 out of bounds for type 'float [8]'",)),
    Bug("memory:misaligned", 1, 32, (X, NAN, 128), "asan", "ubsan", ("misaligned address", "float4")),
    Bug("memory:misaligned", 1, 32, (X, NAN, 128), "plain", "fault", ("misaligned",)),
    Bug("races:missing_barrier_before", 1, 128, (X, NAN), "tsan", "tsan", ("races.cu:", "thread (")),
    Bug("races:missing_barrier_after", 1, 128, (THREE, NAN, 3), "tsan", "tsan", ("races.cu:",)),
    Bug("races:missing_syncwarp", 1, 32, (X[:32], NAN[:1]), "tsan", "tsan", ("races.cu:",)),
    Bug("races:non_atomic", 4, 32, (X, np.zeros(1, np.int32), 128), "tsan", "tsan", ("races.cu:",)),
    Bug("waiting:divergent_barrier", 1, S, (X[:S], NAN[:S]), "plain", "fault", ("waiting.cu:13", "divergent barrier: 32 threads wait")),
    Bug("waiting:two_barriers", 1, S, (X[:S], NAN[:S]), "plain", "fault", ("divergent barrier", "in line ")),
    Bug("waiting:early_return", 1, S, (X[:S], NAN[:S], 50), "plain", "fault", ("14 have left the kernel",)),
    Bug("waiting:deadlock", 1, S, (X[:S], NAN[:S]), "plain", "fault", ("deadlock", "__shfl_xor_sync() in line 39", "never came")),
    Bug("waiting:missing_lane", 1, 32, (X[:32], NAN[:32]), "plain", "fault", ("missing from its own mask 0x0000ffff",)),
    Bug("waiting:absent_lane", 1, 32, (X[:32], NAN[:32]), "plain", "fault", ("takes no part",)),
    Bug("waiting:endless", 1, 32, (X[:32], NAN[:32]), "plain", "timeout", ("endless<true>", "more than 3 s")),
    Bug("waiting:division", 1, 32, (X[:32].astype(np.int32), np.zeros(32, np.int32), 0), "plain", "fault", ("division by zero",)),
]  # fmt: skip


@pytest.mark.parametrize("bug", BUGS, ids=lambda b: f"{b.kernel}-{b.mode}")
def test_the_bug_is_found(bug):
    report = bug.check(True, time_limit=3 if bug.finding == "timeout" else 60)
    assert report.finding == bug.finding, report.text
    for words in bug.words:
        assert words in report.text


@pytest.mark.parametrize("bug", BUGS, ids=lambda b: f"{b.kernel}-{b.mode}")
def test_without_the_bug_there_is_no_alarm(bug):
    report = bug.check(False)
    assert report.ok, report.text


# What shows in the numbers: shared memory is NaN at first, fresh outputs too, the order is shuffled.
WRONG_NUMBERS = [
    Bug("memory:uninitialised", 1, 32, (X, NAN[:1], 128), "plain", "", ()),
    Bug("memory:partial_output", 3, 32, (X[:70], NAN[:70], 70), "plain", "", ()),
    Bug("races:missing_barrier_before", 1, 128, (X, NAN), "plain", "", ()),
    Bug("races:missing_syncwarp", 1, 32, (X[:32], NAN[:1]), "plain", "", ()),
    Bug("races:missing_wait", 1, 128, (X, NAN), "plain", "", ()),
]


@pytest.mark.parametrize("bug", WRONG_NUMBERS, ids=lambda b: b.kernel)
def test_wrong_numbers_are_nan(bug):
    right, wrong = bug.check(False), bug.check(True)
    assert right.ok and wrong.ok
    assert not np.isnan(right.arrays[1]).any()
    assert np.isnan(wrong.arrays[1]).any()


def test_every_planted_kernel_is_used():
    from gpukit.launch.sources import load

    planted = {f"{p.stem}:{name}" for p in PLANTED.glob("*.cu") for name in load(p).kernels}
    assert planted == {bug.kernel for bug in BUGS + WRONG_NUMBERS}
