"""Cases run in worker processes, plain and under the sanitizers, with what they found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gpukit.backends.emulator.build import compiler_problem
from gpukit.backends.emulator.check import environment, finding
from gpukit.errors import GpukitError
from gpukit.kernel_checks.coverage import Target

# A sanitizer, and Numba's simulator, run every so-manieth of the cases only.
PARTS = {"plain": 1, "asan": 10, "tsan": 100, "simulator": 20}
SIMULATOR = {"NUMBA_ENABLE_CUDASIM": "1"}
WORKER = ("-P", "-m", "gpukit.kernel_checks.worker")
CASE_SECONDS = 300.0  # a worker that says nothing for this long hangs


@dataclass(frozen=True)
class Finding:
    """A problem: in which check, of which target and case, what, and how to see it again."""

    check: str
    target: str
    text: str
    again: str


def count_of(mode: str, cases: int) -> int:
    """How many of `cases` run in `mode`: at least one."""
    return max(1, cases // PARTS[mode]) if cases else 0


def fuzz(
    wanted: Sequence[Target],
    modes: Sequence[str],
    cases: int,
    seed: int,
    only: int | None = None,
    step: Callable[[int, str], None] = lambda cases, what: None,
) -> list[Finding]:
    """Run `cases` cases a target (`only` one of them) in each of `modes`; what was found.

    `step(n, what)` is called when n more cases are done. Raises GpukitError without a compiler.
    """
    if compiler_problem() and set(modes) - {"simulator"}:
        raise GpukitError(compiler_problem())
    found: list[Finding] = []
    for mode in modes:
        numbers = (0, count_of(mode, cases)) if only is None else (only, only + 1)
        order: dict[str, Any] = {"seed": seed, "cases": numbers}
        if mode == "plain":
            order["prepare"] = {
                m: count_of(m, cases) if only is None else 1 for m in modes if m != "plain"
            }
        left = [str(t) for t in wanted]
        while left:
            left = _work(mode, {**order, "targets": left}, found, step)
    return found


def _work(
    mode: str, order: dict[str, Any], found: list[Finding], step: Callable[[int, str], None]
) -> list[str]:
    """One worker; the targets that it left because it died."""
    left = list(order["targets"])
    first, last = order["cases"]
    done, case = first, first
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        process = subprocess.Popen(
            [sys.executable, *WORKER, json.dumps(order)],
            env={**os.environ, **(SIMULATOR if mode == "simulator" else environment(mode))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        with process:
            for line in _lines(process):
                said = json.loads(line)
                if "done" in said:
                    left.pop(0)
                    step(last - done, mode)
                    done = case = first
                elif "problem" in said:
                    text = said["problem"]
                    found.append(_finding(mode, said["target"], order["seed"], case, text))
                else:
                    case = said["case"]
                    step(case - done, f"{mode} {said['target']}")
                    done = case
        if not left:
            return []
        errors.seek(0)
        text = errors.read()
        kind = finding(process.returncode, text)
        found.append(_finding(mode, left[0], order["seed"], case, f"{kind}: {summary(text)}"))
        step(last - done, mode)
    return left[1:]


def _lines(process: subprocess.Popen) -> Iterator[str]:
    """Lines of a worker's stdout; it is killed when it is silent for too long."""
    assert process.stdout is not None
    timer = threading.Timer(CASE_SECONDS, process.kill)
    try:
        while True:
            timer.cancel()
            timer = threading.Timer(CASE_SECONDS, process.kill)
            timer.start()
            line = process.stdout.readline()
            if not line:
                return
            yield line
    finally:
        timer.cancel()


def summary(text: str) -> str:
    """The lines of a report that say most: its headline, and places in kernels."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [
        line
        for line in lines
        if "ERROR: AddressSanitizer" in line
        or ": runtime error: " in line
        or "WARNING: ThreadSanitizer" in line
        or (line.startswith("#") and (".cu:" in line or ".cuh:" in line))
    ]
    return " | ".join(telling[:6] or lines[-3:]) or "the process died without a word"


def _finding(mode: str, target: str, seed: int, case: int, text: str) -> Finding:
    again = f"gpukit kernels check {target} --seed {seed} --case {case} --mode {mode}"
    return Finding(mode, target, text, again)
