"""The process in which cases run: under a sanitizer it may die, and the parent goes on.

    python -m gpukit.verify.worker '{"targets": ["relu:cuda"], "seed": 1, "cases": [0, 20]}'

A reply (core/process.py) before each case, one for each problem, one when a target is done.
`prepare` names sanitizer builds, each with the number of cases for which libraries are built here,
where nothing slows the compiler. `plugins` are loaded first. In `mode` "cheats" a case is the
battery of cheats.py, in "card" it runs on the first card.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gpukit.core import process
from gpukit.emulator.build import kernel_library, runtime_library
from gpukit.errors import GpukitError
from gpukit.launch.kernel import kernels
from gpukit.plugins import load_any
from gpukit.verify import card, cheats, numba_kernels, run_case
from gpukit.verify.coverage import Target, targets
from gpukit.verify.fuzz import CARD, CHEATS, OVERTIME

Runner = Callable[[Target, int, int], str]

MOST_PROBLEMS = 3  # of one target: more of the same helps nobody


def main(order: dict[str, Any], reply: process.Reply) -> int:
    """Run the cases of `order`; 0 also where there are problems, which were replied."""
    first, last = order["cases"]
    for plugin in order.get("plugins", ()):
        load_any(plugin)
    for name in order["targets"]:
        (target,) = targets(name)
        run = _runner(target, order.get("mode", ""))
        problems = 0
        for number in range(first, last):
            reply(target=name, case=number)
            found = _problem(run, target, order["seed"], number)
            if found:
                problems += 1
                reply(target=name, case=number, problem=found)
            if OVERTIME in found:
                break
            for mode, count in order.get("prepare", {}).items():
                if number == first + count - 1:
                    _prepare(mode)
            if problems == MOST_PROBLEMS:
                break
        reply(target=name, done=True)
    return 0


def _problem(run: Runner, target: Target, seed: int, number: int) -> str:
    try:
        return run(target, seed, number)
    except (SystemExit, KeyboardInterrupt) as error:
        return left_by(error, target)


def left_by(error: BaseException, target: Target) -> str:
    """What is wrong with a launcher that raises what ends Python, with its file and line.

    No Ctrl-C comes here: a worker has a process group of its own.
    """
    told = GpukitError(f"{type(error).__name__}: {error}; a launcher returns its result")
    return run_case.fault(told.with_traceback(error.__traceback__), target)


def _runner(target: Target, mode: str) -> Runner:
    if mode == CHEATS:
        return cheats.battery
    if mode == CARD:
        return card.run
    return run_case.run if target.emulated else numba_kernels.run


def _prepare(mode: str) -> None:
    bounds = [bound for kernel in kernels for bound in run_case.launched(kernel)]
    with ThreadPoolExecutor(2) as pool:
        pool.submit(runtime_library, mode)
        list(pool.map(lambda bound: kernel_library(bound, mode), bounds))


if __name__ == "__main__":
    sys.exit(process.work(main))
