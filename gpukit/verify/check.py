"""`gpukit kernels check`: compile for every card, run against definitions, sanitize."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gpukit.core import caches
from gpukit.device import cuda_count, cuda_problem
from gpukit.errors import DeviceError, GpukitError, SettingError
from gpukit.launch.numba import NumbaKernel, card_problem, problem
from gpukit.launch.nvrtc import ARCHITECTURES
from gpukit.static import budgets
from gpukit.static.finding import Finding
from gpukit.verify import numba_kernels, verified
from gpukit.verify.coverage import Target, targets
from gpukit.verify.fuzz import CARD, SIMULATOR, count_of, fuzz, modes_here
from gpukit.verify.occupancy_report import OccupancyReport, occupancy_reports

Step = Callable[[int, str], None]
Tell = Callable[[Finding], None]


@dataclass(frozen=True)
class Plan:
    """What is to be checked, and how much of it; `files` are CUDA C."""

    targets: tuple[Target, ...]
    files: tuple[str, ...]
    numba_kernels: tuple[NumbaKernel, ...]
    architectures: tuple[int, ...]
    modes: tuple[str, ...]
    cases: int
    seed: int
    only: int | None = None
    everything: bool = False
    left_out: str = ""

    @property
    def compilations(self) -> int:
        """How many files and Numba kernels are compiled, each for every architecture."""
        return (len(self.files) + len(self.numba_kernels)) * len(self.architectures)

    def for_mode(self, mode: str) -> list[Target]:
        """What runs in `mode`: everything on a card, Numba's in its simulator, others on emu.

        Numba's also on a card where it finds its compiler and the driver.
        """
        if mode == CARD:
            return [t for t in self.targets if not (t.simulated and card_problem())]
        return [t for t in self.targets if (t.simulated if mode == SIMULATOR else t.emulated)]

    def count(self, mode: str) -> int:
        """Cases that run in `mode`."""
        each = count_of(mode, self.cases) if self.only is None else 1
        return each * len(self.for_mode(mode))

    @property
    def steps(self) -> int:
        """Compilations and cases."""
        return self.compilations + sum(self.count(mode) for mode in self.modes)


@dataclass
class Outcome:
    """What was done, and what was found: nothing, if the kernels are good."""

    compiled: int
    cases: dict[str, int]
    findings: list[Finding] = field(default_factory=list)
    occupancy: list[OccupancyReport] = field(default_factory=list)
    not_seen: str = ""

    @property
    def ok(self) -> bool:
        return not self.findings


def plan(
    name: str | None,
    *,
    architectures: Sequence[int] = (),
    modes: Sequence[str] = (),
    cases: int = 20,
    seed: int = 0,
    only: int | None = None,
) -> Plan:
    """The checks for `name` (None: everything).

    One case alone (`only`) compiles nothing, nor do `modes` without `architectures`.
    Numba's kernels are left out where numba-cuda is not installed, an error if nothing else is.
    Raises DeviceError for mode "card" without one.
    """
    if CARD in modes and not cuda_count():
        raise DeviceError(f"--mode {CARD}: {cuda_problem()}")
    unknown = sorted(set(architectures) - set(ARCHITECTURES))
    if unknown:
        known = ", ".join(str(a) for a in ARCHITECTURES)
        raise SettingError(f"no kernel is compiled for sm_{unknown[0]}; use {known}")
    named = targets(name)
    absent = card_problem() if set(modes) == {CARD} else problem()
    chosen = [t for t in named if not (t.simulated and absent)]
    if not chosen:
        raise GpukitError(f"{name}: {absent}")
    compiles = only is None and bool(architectures or not modes)
    if not compiles:
        files: tuple[str, ...] = ()
    elif name is None:
        files = tuple(budgets.all_files())
    else:
        files = tuple(sorted({file for t in chosen if t.emulated for file in t.files}))
    return Plan(
        tuple(chosen),
        files,
        numba_kernels.kernels_of(chosen) if compiles else (),
        tuple(architectures) or ARCHITECTURES,
        tuple(modes) or modes_here(),
        cases,
        seed,
        only,
        everything=name is None and compiles and not architectures,
        left_out=f"Numba's kernels: {absent}" if len(chosen) < len(named) else "",
    )


def run(
    wanted: Plan,
    *,
    update: bool = False,
    step: Step = lambda steps, what: None,
    tell: Tell = lambda finding: None,
) -> Outcome:
    """Do it. With `update`, only the figures of NVRTC are written into the budgets.

    `tell(finding)` is called with each finding as soon as it is there.
    """
    caches.prepare()
    taken, findings = budgets.measure(wanted.files, wanted.architectures, step)
    table, here = budgets.read(), budgets.version()
    if update:
        if not findings:
            budgets.write(budgets.merge(table, taken, here, wanted.everything))
        return Outcome(len(wanted.files) * len(wanted.architectures), {}, findings)
    findings += budgets.compare(taken, table, here)
    findings += numba_kernels.compile_all(wanted.numba_kernels, wanted.architectures, step)
    for finding in findings:
        tell(finding)
    ran = {mode: wanted.count(mode) for mode in wanted.modes if wanted.for_mode(mode)}
    # Modes of the emulator go together: the first one prepares builds for the others.
    elsewhere = (SIMULATOR, CARD)
    for modes in ([m for m in ran if m not in elsewhere], *([m] for m in elsewhere if m in ran)):
        if any(ran[mode] for mode in modes):
            chosen = wanted.for_mode(modes[0])
            findings += fuzz(chosen, modes, wanted.cases, wanted.seed, wanted.only, step, tell=tell)
    each = {mode: count_of(mode, wanted.cases) for mode in ran}
    verified.record(wanted, each, findings)
    step(0, "occupancy and hot loops")
    emulated = [str(target) for target in wanted.targets if target.emulated]
    found, why = occupancy_reports(
        emulated, (), wanted.architectures if wanted.compilations else ()
    )
    return Outcome(wanted.compilations, ran, findings, found, why)
