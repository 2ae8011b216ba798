"""A plug-in as the subject of a check: all of its code runs in worker processes.

Whatever a plug-in does when it is loaded, compiled or run, the caller lives on and gets a finding,
of a crash and of an endless loop, too.

    outcome = check_plugin("mine.py", cases=50)
    assert outcome.ok, outcome
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from gpukit.core import caches, settings
from gpukit.core.process import Heard, WorkerProcess
from gpukit.dispatch.primitive import registry
from gpukit.launch import nvrtc
from gpukit.plugins import PluginError
from gpukit.static.finding import Finding
from gpukit.verify.check import Outcome, Step, Subject, checks, run
from gpukit.verify.fuzz import ONE_IN, SIMULATOR, summary

LIMIT = 60.0  # seconds that a plug-in may take to be loaded, a compilation, or a case
WORKER = "gpukit.verify.plugin_worker"


class PluginFile(Subject):
    """A plug-in: the path of its Python file, or the name of one that a package installed.

    It is loaded in a worker process; that, a compilation and a case may take `limit` seconds each.
    `heard(lines)` gets the last lines that it printed in a process. Raises PluginError for one that
    is not there or cannot be loaded.
    """

    modes = tuple(mode for mode in ONE_IN if mode != SIMULATOR)

    def __init__(
        self, plugin: str | Path, limit: float = LIMIT, heard: Heard = lambda lines: None
    ) -> None:
        self.name = str(plugin)
        if isinstance(plugin, Path) or self.name.endswith(".py"):
            path = settings.expanded(plugin)
            if not path.is_file():
                raise PluginError(f"no kernel {self.name!r}: there is no such file")
            self.name = str(path.resolve())
        self.plugins = (self.name,)
        self.limit = limit
        self.heard = heard
        self._inspect((), lambda steps, what: None)
        self.label = ", ".join(self.targets) or self.name

    def compile(self, architectures: Sequence[int], step: Step) -> Outcome:
        """Findings are errors and warnings; with errors, none of it is run."""
        nvrtc.version()  # refused here where it is not installed
        return self._inspect(architectures, step)

    def _inspect(self, architectures: Sequence[int], step: Step) -> Outcome:
        """Load it in a worker process and compile its kernels there."""
        caches.prepare()
        order = {"plugins": [self.name], "architectures": list(architectures)}
        made = Outcome(self.targets)
        refused, done, doing = "", False, ""
        problems: dict[str, list[str]] = {}
        variables = {"PYTHONFAULTHANDLER": "1"}
        with WorkerProcess(WORKER, order, variables=variables, limit=self.limit) as worker:
            for reply in worker.replies():
                if "refused" in reply:
                    refused = reply["refused"]
                elif "found" in reply:
                    self.targets, self.left_out = tuple(reply["found"]), tuple(reply["left_out"])
                    self.sources, doing = reply["files"], "is loaded"
                elif "compiling" in reply:
                    doing = f"is compiled ({reply['compiling']})"
                elif "compiled" in reply:
                    made.compiled += 1
                    step(1, f"compile {reply['compiled']} sm_{reply['arch']}")
                    if reply["problem"]:
                        problems.setdefault(reply["problem"], []).append(f"sm_{reply['arch']}")
                    for kernel, taken in reply.get("taken", {}).items():
                        made.resources.setdefault(kernel, {})[str(reply["arch"])] = taken
                done = "done" in reply
            self.heard(worker.printed())
            if refused:
                raise PluginError(refused)
            why = "" if done else self._why(worker)
        if why and not doing:
            raise PluginError(f"{self.name}: {why} while it was loaded")
        if why:
            made.findings.append(self._finding(f"{why} while it {doing}"))
        for problem, where in problems.items():
            on = "every architecture" if len(where) == len(architectures) else ", ".join(where)
            made.findings.append(self._finding(f"{problem} [{on}]"))
        made.broken = any("warning" not in finding.text for finding in made.findings)
        return made

    def _why(self, worker: WorkerProcess) -> str:
        """How the worker ended before it was done."""
        if worker.hung:
            return f"took more than {self.limit:g} s"
        if worker.code == 0:
            return "ended the process without a word"
        return f"crashed: {summary(worker, self.plugins)}"

    def _finding(self, text: str) -> Finding:
        again = f"gpukit kernels check {shlex.quote(self.name)} --fuzz 0"
        return Finding("compile", Path(self.name).name, text, again)


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
) -> Outcome:
    """Check the plug-in in a Python file, or that of an installed package by its name.

    Compiles its CUDA C for `architectures` (all), then runs `cases` random cases inside its limits
    against the definition, some of them under sanitizers, and the battery of cheats.py. One case
    (`only`) compiles nothing, nor do `modes` without `architectures`. `heard(lines)` gets the last
    lines that a process printed. Raises PluginError for a plug-in that cannot be loaded,
    DeviceError for mode "card" without one.
    """
    wanted = checks(
        PluginFile(plugin, limit, heard), architectures=architectures, modes=modes,
        cases=cases, seed=seed, only=only,
    )  # fmt: skip
    return run(wanted, step=step)


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
