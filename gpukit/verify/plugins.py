"""Checks of a plug-in, as of gpukit's own kernels but for budgets, all of it in other processes.

Whatever a plug-in does when it is loaded, compiled or run, the caller lives on and gets a finding,
of a crash and of an endless loop, too.

    outcome = check_plugin("mine.py", cases=50)
    assert outcome.ok, outcome
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gpukit.core import caches, settings
from gpukit.core.process import Heard, WorkerProcess
from gpukit.device import cuda_count, cuda_problem
from gpukit.dispatch.primitive import registry
from gpukit.errors import DeviceError, GpukitError, SettingError
from gpukit.launch import nvrtc
from gpukit.plugins import PluginError
from gpukit.static.finding import Finding
from gpukit.verify import card
from gpukit.verify.fuzz import CARD, CHEATS, LEFT_OUT, count_of, fuzz, summary
from gpukit.verify.occupancy_report import OccupancyReport, occupancy_reports

LIMIT = 60.0  # seconds that a plug-in may take to be loaded, a compilation, or a case
MODES = ("plain", "asan", "tsan", CHEATS, CARD)
WORKER = "gpukit.verify.plugin_worker"

Step = Callable[[int, str], None]


@dataclass
class Look:
    """What a plug-in registers, what its kernels take, and what is wrong with them."""

    targets: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    taken: dict[str, dict[str, str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    compiled: int = 0


@dataclass
class PluginOutcome:
    """What was checked of a plug-in and what was found; good if `ok`."""

    look: Look
    cases: dict[str, int]
    findings: list[Finding]
    not_seen: tuple[str, ...] = ()
    occupancy: list[OccupancyReport] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.findings

    def __str__(self) -> str:
        return "; ".join(f"{f.check} {f.target}: {f.text}" for f in self.findings) or "all hold"


def check_plugin(
    plugin: str | Path,
    *,
    architectures: Sequence[int] = (),
    modes: Sequence[str] = (),
    cases: int = 20,
    seed: int = 0,
    only: int | None = None,
    limit: float = LIMIT,
    step: Step = lambda steps, what: None,
    heard: Heard = lambda lines: None,
) -> PluginOutcome:
    """Check the plug-in in a Python file, or that of an installed package by its name.

    Compiles its CUDA C for `architectures` (all), then runs `cases` random cases inside its limits
    against the definition, a part of them under sanitizers, and the battery of cheats.py. One case
    (`only`) compiles nothing, nor do `modes` without `architectures`. `heard(lines)` gets the last
    lines that a process printed. Raises PluginError for a plug-in that cannot be loaded,
    DeviceError for mode "card" without one.
    """
    name = reference(plugin)
    unknown = sorted(set(architectures) - set(nvrtc.ARCHITECTURES))
    if unknown:
        known = ", ".join(str(a) for a in nvrtc.ARCHITECTURES)
        raise SettingError(f"no kernel is compiled for sm_{unknown[0]}; use {known}")
    for mode in modes:
        if mode not in MODES:
            raise SettingError(f"a plug-in is not checked in mode {mode!r}; use {', '.join(MODES)}")
    if CARD in modes and not cuda_count():
        raise DeviceError(f"--mode {CARD}: {cuda_problem()}")
    chosen = tuple(architectures) or nvrtc.ARCHITECTURES
    compiles = only is None and (architectures or not modes)
    found = look(name, chosen if compiles else (), limit, step, heard)
    wanted = tuple(modes) or tuple(m for m in MODES if m != CARD or cuda_count())
    if not found.targets:
        raise GpukitError(
            f"{plugin}: nothing in it can be checked here; emu runs implementations for 'cuda'"
        )
    counts = {m: len(found.targets) * (count_of(m, cases) if only is None else 1) for m in wanted}
    findings = list(found.findings)
    if not any(f.check == "compile" and "warning" not in f.text for f in findings):
        findings += fuzz(found.targets, wanted, cases, seed, only, step, (name,), limit, heard)
        findings += _where_it_crashed(findings, wanted, seed, name, limit)
    else:
        counts = dict.fromkeys(wanted, 0)
    for one in findings:
        if one.text.endswith(LEFT_OUT):
            for mode in wanted[wanted.index(one.check) + 1 :]:
                counts[mode] -= count_of(mode, cases) if only is None else 1
    not_seen = card.not_seen() if counts.get(CHEATS) else ()
    shown, why = occupancy_reports((), (name,), chosen if compiles and not findings else ())
    return PluginOutcome(found, counts, findings, (*not_seen, *filter(None, [why])), shown)


def reference(plugin: str | Path) -> str:
    """A plug-in as another process finds it: the absolute path of a file, or a name."""
    if isinstance(plugin, Path) or str(plugin).endswith(".py"):
        path = settings.expanded(plugin)
        if not path.is_file():
            raise PluginError(f"no kernel {str(plugin)!r}: there is no such file")
        return str(path.resolve())
    return str(plugin)


def misnamed(name: str, command: str) -> str:
    """What `gpukit kernels COMMAND` was to be given, for a name like a file's; else empty."""
    if name.partition(":")[0] in registry:
        return ""
    folder, file = Path(name), Path(f"{name}.py")
    if folder.is_dir():
        inside = folder / "__init__.py"
        return f"{name} is a folder; give {inside if inside.is_file() else 'a .py of it'}"
    if file.is_file():
        return f"{file} is here: gpukit kernels {command} {shlex.quote(str(file))}"
    return ""


def look(
    plugin: str,
    architectures: Sequence[int],
    limit: float = LIMIT,
    step: Step = lambda steps, what: None,
    heard: Heard = lambda lines: None,
) -> Look:
    """Load a plug-in in another process and compile its kernels there; `heard` gets what it prints.

    Raises PluginError where it cannot be loaded.
    """
    caches.prepare()
    if architectures:
        nvrtc.version()  # refused here where it is not installed
    order = {"plugins": [plugin], "architectures": list(architectures)}
    found, said, done = Look(), False, False
    refused, doing = "", "is loaded"
    problems: dict[tuple[str, str], list[str]] = {}
    variables = {"PYTHONFAULTHANDLER": "1"}
    with WorkerProcess(WORKER, order, variables=variables, limit=limit) as worker:
        for news in worker.replies():
            if "refused" in news:
                refused = news["refused"]
            elif "found" in news:
                said = True
                found.targets = tuple(news["found"])
                found.left_out = tuple(news["left_out"])
            elif "compiling" in news:
                doing = f"is compiled ({news['compiling']})"
            elif "compiled" in news:
                found.compiled += 1
                step(1, f"compile {news['compiled']} sm_{news['arch']}")
                if news["problem"]:
                    key = (news["compiled"], news["problem"])
                    problems.setdefault(key, []).append(f"sm_{news['arch']}")
                for kernel, taken in news.get("taken", {}).items():
                    found.taken.setdefault(kernel, {})[str(news["arch"])] = taken
            done = "done" in news
        heard(worker.printed())
        if refused:
            raise PluginError(refused)
        why = "" if done else _why(worker, plugin, limit)
    if why and not said:
        raise PluginError(f"{plugin}: {why} while it was loaded")
    if why:
        found.findings.append(_finding(plugin, f"{why} while it {doing}"))
    for (_, problem), where in problems.items():
        on = "every architecture" if len(where) == len(architectures) else ", ".join(where)
        found.findings.append(_finding(plugin, f"{problem} [{on}]"))
    return found


def _where_it_crashed(
    findings: Sequence[Finding], modes: Sequence[str], seed: int, plugin: str, limit: float
) -> list[Finding]:
    """A crash without a word about its line: the same case once more under AddressSanitizer."""
    crashed = [f for f in findings if f.check == "plain" and f.text.startswith("crash")]
    if not crashed or "asan" not in modes or any(f.check == "asan" for f in findings):
        return []
    case = int(crashed[0].again.partition("--case ")[2].split()[0])
    target = crashed[0].target
    return fuzz([target], ["asan"], 1, seed, case, plugins=[plugin], limit=limit)


def _why(worker: WorkerProcess, plugin: str, limit: float) -> str:
    """How the process that looks at a plug-in ended before it was done."""
    if worker.hung:
        return f"took more than {limit:g} s"
    if worker.code == 0:
        return "ended the process without a word"
    return f"crashed: {summary(worker, [plugin])}"


def _finding(plugin: str, text: str) -> Finding:
    again = f"gpukit kernels check {shlex.quote(plugin)} --fuzz 0"
    return Finding("compile", Path(plugin).name, text, again)
