"""`gpukit kernels check`: compile for each architecture, run cases against definitions, report.

gpukit's own kernels (own_kernels.py) and plug-ins (plugins.py) go through the same steps; what
differs between them is said by a `Subject`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from gpukit.core import caches
from gpukit.core.process import Heard
from gpukit.device import cuda_count, cuda_problem
from gpukit.errors import DeviceError, GpukitError, SettingError
from gpukit.launch.numba import NumbaKernel
from gpukit.launch.nvrtc import ARCHITECTURES
from gpukit.static.finding import Finding
from gpukit.verify import card, verified
from gpukit.verify.coverage import Target
from gpukit.verify.fuzz import CARD, CASE_SECONDS, CHEATS, LEFT_OUT, count_of, fuzz
from gpukit.verify.kernel_report import KernelReport, distinct, kernel_reports
from gpukit.verify.launches import launches

Step = Callable[[int, str], None]
Tell = Callable[[Finding], None]


@dataclass
class Outcome:
    """What was checked and what was found; good if `ok`.

    `compiled` counts compilations, `cases` those run by mode. `resources` are those of kernels
    without a budget, by kernel and architecture. Kernels that are `broken` were not run.
    """

    targets: tuple[str, ...]
    compiled: int = 0
    findings: list[Finding] = field(default_factory=list)
    cases: dict[str, int] = field(default_factory=dict)
    resources: dict[str, dict[str, str]] = field(default_factory=dict)
    occupancy: list[KernelReport] = field(default_factory=list)
    left_out: tuple[str, ...] = ()
    not_seen: tuple[str, ...] = ()
    broken: bool = False

    @property
    def ok(self) -> bool:
        return not self.findings

    def __str__(self) -> str:
        return "; ".join(f"{f.check} {f.target}: {f.text}" for f in self.findings) or "all hold"


class Subject:
    """What is checked: gpukit's own kernels, or a plug-in.

    `label` is what the verdict calls it, `targets` are names of implementations (conv2d:direct),
    `left_out` says what cannot be checked, `sources` counts what is compiled. `own` are gpukit's
    implementations among the targets, of which verified facts are recorded; `plugins` are loaded by
    each worker process. A case may take `limit` seconds; `heard` gets what workers printed last.
    """

    label: str
    modes: tuple[str, ...]
    targets: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    sources: int = 0
    own: tuple[Target, ...] = ()
    plugins: tuple[str, ...] = ()
    limit: float = CASE_SECONDS
    heard: Heard = staticmethod(lambda lines: None)

    def for_mode(self, mode: str) -> list[str]:
        """Those of `targets` that run in `mode`."""
        return [*self.targets]

    def compile(self, architectures: Sequence[int], step: Step) -> Outcome:
        """Compile everything for `architectures`: findings and resources."""
        raise NotImplementedError


@dataclass(frozen=True)
class Checks:
    """What is to be checked of a subject, and how much of it: `work` has the targets by mode."""

    subject: Subject
    architectures: tuple[int, ...]
    work: dict[str, list[str]]
    cases: int
    seed: int
    only: int | None = None

    def each(self, mode: str) -> int:
        """Cases that a target runs in `mode`."""
        return count_of(mode, self.cases) if self.only is None else 1

    @property
    def counts(self) -> dict[str, int]:
        """Cases by mode."""
        return {mode: self.each(mode) * len(targets) for mode, targets in self.work.items()}

    @property
    def steps(self) -> int:
        """Compilations and cases."""
        return self.subject.sources * len(self.architectures) + sum(self.counts.values())


def known_architectures(wanted: Sequence[int]) -> tuple[int, ...]:
    """Those `wanted`, all if none are; SettingError for one that kernels are not compiled for."""
    unknown = sorted(set(wanted) - set(ARCHITECTURES))
    if unknown:
        known = ", ".join(str(a) for a in ARCHITECTURES)
        raise SettingError(f"no kernel is compiled for sm_{unknown[0]}; use {known}")
    return tuple(wanted) or ARCHITECTURES


def checks(
    subject: Subject,
    *,
    architectures: Sequence[int] = (),
    modes: Sequence[str] = (),
    cases: int = 20,
    seed: int = 0,
    only: int | None = None,
) -> Checks:
    """The checks of `subject`: for all architectures and in all modes unless told otherwise.

    One case (`only`) compiles nothing, nor do `modes` without `architectures`.
    Raises SettingError for what it does not know, DeviceError for mode "card" without one.
    """
    compiled_for = known_architectures(architectures)
    for mode in modes:
        if mode not in subject.modes:
            known = ", ".join(subject.modes)
            raise SettingError(f"a plug-in is not checked in mode {mode!r}; use {known}")
    if CARD in modes and not cuda_count():
        raise DeviceError(f"--mode {CARD}: {cuda_problem()}")
    if only is not None or (modes and not architectures):
        compiled_for = ()
    chosen = modes or [mode for mode in subject.modes if mode != CARD or cuda_count()]
    if not subject.targets:
        raise GpukitError(
            f"{subject.label}: nothing in it can be checked here; emu runs implementations for "
            "'cuda'"
        )
    work = {mode: found for mode in chosen if (found := subject.for_mode(mode))}
    return Checks(subject, compiled_for, work, cases, seed, only)


def run(
    wanted: Checks,
    *,
    step: Step = lambda steps, what: None,
    tell: Tell = lambda finding: None,
) -> Outcome:
    """Carry out the checks; `tell(finding)` is called with each finding at once.

    Kernels that do not compile are not run, if the subject says so; a target that hangs is left
    out of the modes that follow.
    """
    caches.prepare()
    subject = wanted.subject
    made = Outcome(subject.targets)
    if wanted.architectures:
        made = subject.compile(wanted.architectures, step)
    for finding in made.findings:
        tell(finding)
    made.cases, made.left_out = wanted.counts, subject.left_out
    if made.broken:
        made.cases = dict.fromkeys(made.cases, 0)
    elif any(made.cases.values()):
        made.findings += _run_cases(wanted, step, tell)
    for finding in made.findings:
        if finding.text.endswith(LEFT_OUT):
            modes = [*wanted.work]
            for mode in modes[modes.index(finding.check) + 1 :]:
                left = finding.target in wanted.work[mode]
                made.cases[mode] -= wanted.each(mode) if left else 0
    record(wanted, made.findings)
    step(0, "occupancy and hot loops")
    # A launch of a kernel that failed may hang.
    failed = {finding.target for finding in made.findings}
    good = [t for t in subject.for_mode("plain") if t not in failed and not made.broken]
    made.not_seen = card.not_seen() if made.cases.get(CHEATS) else ()
    if good and wanted.architectures:
        try:
            usual = distinct(launches(good, subject.plugins, blocks=1))
            made.occupancy = kernel_reports(usual, wanted.architectures)
        except GpukitError as error:  # of a launcher, which a usual call is too much for
            made.not_seen += (f"occupancy and hot loops: {error}",)
    return made


def record(wanted: Checks, findings: Sequence[Finding]) -> None:
    """Record the verified facts of gpukit's own kernels; a finding wipes those of its kernel."""
    for target in wanted.subject.own:
        names = {str(target), *target.files}
        if any(f.target in names or f.target.partition(":")[0] in names for f in findings):
            verified.forget(target)
        elif wanted.only is None:
            modes = [mode for mode, targets in wanted.work.items() if str(target) in targets]
            cases = {mode: wanted.each(mode) for mode in modes if wanted.each(mode)}
            numba = all(isinstance(kernel, NumbaKernel) for kernel in target.kernels)
            compiled = bool(target.files) and (target.emulated or numba)
            facts = verified.Facts(wanted.architectures if compiled else (), cases)
            verified.remember(target, facts)


def _run_cases(wanted: Checks, step: Step, tell: Tell) -> list[Finding]:
    subject = wanted.subject
    run_in = partial(
        fuzz, cases=wanted.cases, seed=wanted.seed, plugins=subject.plugins, limit=subject.limit,
        heard=subject.heard, tell=tell,
    )  # fmt: skip
    found = run_in(wanted.work, only=wanted.only, step=step)
    crashed = [f for f in found if f.check == "plain" and f.text.startswith("crash")]
    if crashed and "asan" in wanted.work and not any(f.check == "asan" for f in found):
        # The crash did not say on which line: the same case once more under AddressSanitizer.
        case = int(crashed[0].again.partition("--case ")[2].split()[0])
        found += run_in({"asan": [crashed[0].target]}, only=case)
    return found
