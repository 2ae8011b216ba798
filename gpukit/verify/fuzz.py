"""Cases run in worker processes, plain and under the sanitizers, with what they found."""

from __future__ import annotations

import os
import re
import shlex
import signal
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from gpukit.core import settings
from gpukit.core.process import Heard, WorkerProcess
from gpukit.emulator.build import compiler_problem
from gpukit.emulator.check import environment, finding
from gpukit.errors import GpukitError
from gpukit.static.finding import Finding
from gpukit.verify.coverage import Target

CHEATS = "cheats"  # no cases, but the battery of cheats.py, once a target
CARD = "card"  # on the first card, where there is one
SIMULATOR = "simulator"  # Numba's
# A sanitizer, and Numba's simulator, run one in N of the cases.
ONE_IN = {"plain": 1, "asan": 10, "tsan": 100, SIMULATOR: 20, CHEATS: 10**9, CARD: 1}
WORKER = "gpukit.verify.worker"
TICK = 0.2  # seconds
SHARES = 4  # of each worker: a slow target holds few others up
CASE_SECONDS = 300.0  # a worker that says nothing for this long hangs
OVERTIME = "(GPUKIT_EMU_LIMIT)"  # in what the emulator says of a launch that took too long
LEFT_OUT = "its other cases and modes are left out"  # the end of what is said of a hang


def count_of(mode: str, cases: int) -> int:
    """How many of `cases` run in `mode`: at least one."""
    return max(1, cases // ONE_IN[mode]) if cases else 0


def fuzz(
    work: Mapping[str, Sequence[Target | str]],
    cases: int,
    seed: int,
    only: int | None = None,
    step: Callable[[int, str], None] = lambda cases, what: None,
    plugins: Sequence[str] = (),
    limit: float = CASE_SECONDS,
    heard: Heard = lambda lines: None,
    tell: Callable[[Finding], None] = lambda finding: None,
) -> list[Finding]:
    """Run `cases` cases (`only` one of them) of each target; `work` has the targets by mode.

    Returns what was found. `step(n, what)` is called when n more cases are done. `plugins` are
    loaded by each worker. A case that takes more than `limit` seconds is a finding, the last of its
    target. `heard(lines)` gets the last lines that a worker printed, `tell` each finding at once.
    Raises GpukitError without a compiler.
    """
    if compiler_problem() and work.keys() - {SIMULATOR, CARD}:
        raise GpukitError(compiler_problem())
    found: list[Finding] = []
    hung: set[str] = set()
    for mode, targets in work.items():
        numbers = (0, count_of(mode, cases)) if only is None else (only, only + 1)
        order: dict[str, Any] = {
            "mode": mode, "seed": seed, "cases": numbers, "plugins": list(plugins),
        }  # fmt: skip
        if mode == "plain":
            order["prepare"] = {
                m: count_of(m, cases) if only is None else 1 for m in work if m in ("asan", "tsan")
            }
        crew = _Crew(mode, order, step, limit, heard, tell)
        crew.work([str(target) for target in targets if str(target) not in hung])
        found += crew.found
        hung |= crew.hung
    return found


class _Crew:
    """Workers side by side, each with a share of the targets after another."""

    def __init__(
        self,
        mode: str,
        order: dict[str, Any],
        step: Callable[[int, str], None],
        limit: float,
        heard: Heard,
        tell: Callable[[Finding], None],
    ) -> None:
        self.found: list[Finding] = []
        self.hung: set[str] = set()
        self._mode, self._order, self._limit = mode, order, limit
        self._step, self._heard, self._tell_of = step, heard, tell
        self._lock = threading.Lock()
        self._ahead: deque[list[str]] = deque()
        self._running: set[WorkerProcess] = set()
        self._stopped = False

    def work(self, targets: Sequence[str]) -> None:
        """Run the cases of all `targets`; what is found is in their order."""
        # One process has the card.
        jobs = 1 if self._mode == CARD else min(settings.threads(), len(targets))
        if not jobs:
            return
        share = -(-len(targets) // (jobs * SHARES))
        self._ahead.extend([*targets[i : i + share]] for i in range(0, len(targets), share))
        with ThreadPoolExecutor(jobs) as pool:
            try:
                working = [pool.submit(self._take) for _ in range(jobs)]
                while wait(working, TICK).not_done:  # a signal is seen between waits
                    pass
                for done in working:
                    done.result()
            except BaseException:  # Ctrl-C, too
                self._stop()
                raise
        place = {name: i for i, name in enumerate(targets)}
        self.found.sort(key=lambda finding: place[finding.target])

    def _take(self) -> None:
        while self._ahead:
            try:
                left = self._ahead.popleft()
            except IndexError:  # another was faster
                return
            while left and not self._stopped:
                left = self._one(left)

    def _stop(self) -> None:
        self._stopped = True
        self._ahead.clear()
        with self._lock:
            for worker in self._running:
                worker.kill()

    def _tell(self, steps: int, what: str) -> None:
        with self._lock:
            self._step(steps, what)

    def _one(self, targets: list[str]) -> list[str]:
        """One worker; the targets that it left because it died."""
        order = {**self._order, "targets": targets}
        left = [*targets]
        first, last = order["cases"]
        done, case = first, first
        variables = _variables(self._mode, self._limit)
        with WorkerProcess(WORKER, order, variables=variables, limit=self._limit) as worker:
            with self._lock:
                self._running.add(worker)
                if self._stopped:  # while this one started
                    worker.kill()
            for said in worker.replies():
                if "done" in said:
                    left.pop(0)
                    self._tell(last - done, self._mode)
                    done = case = first
                elif "problem" in said:
                    self._found(said["target"], case, said["problem"])
                else:
                    case = said["case"]
                    self._tell(case - done, f"{self._mode} {said['target']}")
                    done = case
            with self._lock:
                self._running.discard(worker)
            self._heard(worker.printed())
            if not left or self._stopped:
                return []
            self._found(left[0], case, self._why(worker))
        self._tell(last - done, self._mode)
        return left[1:]

    def _why(self, worker: WorkerProcess) -> str:
        if worker.hung:
            limit = f"{self._limit:g} s, the limit of a case (--time-limit)"
            return f"hang: it said nothing for {limit}; {LEFT_OUT}"
        what = finding(worker.code, worker.text())
        return f"{what}: {_signal(worker.code)}{summary(worker, self._order['plugins'])}"

    def _found(self, target: str, case: int, text: str) -> None:
        if OVERTIME in text:
            text = f"{text}; {LEFT_OUT}"
        if text.endswith(LEFT_OUT):
            self.hung.add(target)
        what = shlex.join(self._order["plugins"] or [target])
        seed, mode = self._order["seed"], self._mode
        again = f"gpukit kernels check {what} --seed {seed} --case {case} --mode {mode}"
        found = Finding(mode, target, text, again)
        with self._lock:
            self.found.append(found)
            self._tell_of(found)


def _variables(mode: str, limit: float) -> dict[str, str]:
    if mode == SIMULATOR:
        return {"NUMBA_ENABLE_CUDASIM": "1"}
    if mode == CARD:
        return {}
    found = environment("plain" if mode == CHEATS else mode)
    if mode in ("plain", CHEATS):  # sanitizers tell of a crash themselves
        found["PYTHONFAULTHANDLER"] = "1"
    # A kernel's endless loop is told by the emulator, with its name, before the worker is killed.
    return {**found, "GPUKIT_EMU_LIMIT": f"{0.8 * limit:g}"}


def _signal(code: int) -> str:
    return f"{signal.Signals(-code).name}, " if -code in set(signal.Signals) else ""


def summary(worker: WorkerProcess, plugins: Sequence[str] = ()) -> str:
    """The lines of a report that say most: its headline, and places in kernels or `plugins`."""
    lines = [line.strip() for line in worker.text().splitlines() if line.strip()]
    telling = [
        line
        for line in lines
        if "ERROR: AddressSanitizer" in line
        or ": runtime error: " in line
        or "WARNING: ThreadSanitizer" in line
        or (line.startswith("#") and (".cu:" in line or ".cuh:" in line))
    ]
    if not telling:  # faulthandler's: the innermost frames first
        telling = [line for line in lines if re.match(r'File ".*", line \d+ in ', line)]
        inside = [line for line in telling if f"{os.sep}gpukit{os.sep}" not in line]
        theirs = [line for line in telling if any(f'"{plugin}"' in line for plugin in plugins)]
        telling = (theirs or inside or telling)[:1]
    if not telling and worker.code == 0:
        return "the process ended itself without a word"
    return " | ".join(telling[:6] or lines[-3:]) or "the process died without a word"
