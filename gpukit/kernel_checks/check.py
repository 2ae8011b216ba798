"""`gpukit kernels check`: compile for every card, emulate against definitions, sanitize."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gpukit.backends.nvrtc import ARCHITECTURES
from gpukit.errors import SettingError
from gpukit.kernel_checks import budgets
from gpukit.kernel_checks.coverage import Target, targets
from gpukit.kernel_checks.fuzz import Finding, count_of, fuzz

Step = Callable[[int, str], None]


@dataclass(frozen=True)
class Plan:
    """What is to be checked, and how much of it."""

    targets: tuple[Target, ...]
    files: tuple[str, ...]
    architectures: tuple[int, ...]
    modes: tuple[str, ...]
    cases: int
    seed: int
    only: int | None = None
    everything: bool = False

    @property
    def steps(self) -> int:
        """Compilations and cases."""
        one = 1 if self.only is not None else 0
        runs = sum(one or count_of(mode, self.cases) for mode in self.modes) * len(self.targets)
        return len(self.files) * len(self.architectures) + runs


@dataclass
class Outcome:
    """What was done, and what was found: nothing, if the kernels are good."""

    compiled: int
    cases: dict[str, int]
    findings: list[Finding] = field(default_factory=list)

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
    """The checks for `name` (None: everything). One case alone (`only`) compiles nothing."""
    unknown = sorted(set(architectures) - set(ARCHITECTURES))
    if unknown:
        known = ", ".join(str(a) for a in ARCHITECTURES)
        raise SettingError(f"no kernel is compiled for sm_{unknown[0]}; use {known}")
    chosen = targets(name)
    if only is not None:
        files: tuple[str, ...] = ()
    elif name is None:
        files = tuple(budgets.all_files())
    else:
        files = tuple(sorted({file for target in chosen for file in target.files}))
    return Plan(
        tuple(chosen),
        files,
        tuple(architectures) or ARCHITECTURES,
        tuple(modes) or ("plain", "asan", "tsan"),
        cases,
        seed,
        only,
        everything=name is None and not architectures,
    )


def run(wanted: Plan, *, update: bool = False, step: Step = lambda steps, what: None) -> Outcome:
    """Do it. `update` writes the figures of compilers into the budgets instead of comparing."""
    taken, findings = budgets.measure(wanted.files, wanted.architectures, step)
    table, here = budgets.read(), budgets.version()
    if update:
        if not findings:
            budgets.write(budgets.merge(table, taken, here, wanted.everything))
    else:
        findings += budgets.compare(taken, table, here)
    one = 1 if wanted.only is not None else 0
    ran = {m: (one or count_of(m, wanted.cases)) * len(wanted.targets) for m in wanted.modes}
    if any(ran.values()):
        findings += fuzz(wanted.targets, wanted.modes, wanted.cases, wanted.seed, wanted.only, step)
    return Outcome(len(wanted.files) * len(wanted.architectures), ran, findings)
