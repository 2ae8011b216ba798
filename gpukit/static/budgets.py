"""What every kernel may take on every card: registers, shared memory, spilled bytes.

budgets.json holds what NVRTC reported when a person last looked, for each of `VERSIONS`: whole for
the first, for others where they differ from it. A change that moves a figure fails until someone
writes it down, and the diff shows what it cost:

    bash .ci/budgets update        # every version; without "update" it compares

A card hands registers out in eights a thread, and NVRTC gives one kernel 147 and, seldom, 148
of them; so eights are compared. Versions that are not kept are only held to spills.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from gpukit.errors import GpukitError, SettingError
from gpukit.launch import nvrtc
from gpukit.launch.sources import FOLDER, load
from gpukit.static.finding import Finding

FILE = Path(__file__).with_name("budgets.json")
VERSIONS = ("13.5", "13.0")  # of NVRTC: the first is what the wheels install, its figures are shown
EIGHT = 8
AGAIN = "bash .ci/budgets update"
FIELDS = ("registers", "shared", "local", "spill_stores", "spill_loads")

# [file][instance]["75"] = figures in the order of FIELDS
Budgets = dict[str, dict[str, dict[str, list[int]]]]


@dataclass
class Table:
    """Budgets by version of NVRTC, each of them whole."""

    versions: dict[str, Budgets]

    def of(self, version: str) -> Budgets:
        """Those of `version`; of the first one where it is not kept."""
        return self.versions.get(version) or self.versions.get(VERSIONS[0], {})


def read(path: Path = FILE) -> Table:
    """The committed budgets; none where there is no file."""
    if not path.exists():
        return Table({})
    content = json.loads(path.read_text(encoding="utf-8"))
    first = content[VERSIONS[0]]
    return Table({v: _laid_over(first, content[v]) for v in VERSIONS if v in content})


def write(table: Table, path: Path = FILE) -> None:
    """One line an instance, so that a diff reads well."""
    first = table.versions[VERSIONS[0]]
    parts = [f'  "fields": {json.dumps(FIELDS)}']
    for version in VERSIONS:
        if version in table.versions:
            own = table.versions[version]
            kept = first if version == VERSIONS[0] else _differing(own, first)
            parts.append(f"  {json.dumps(version)}: {{\n{_rows(kept)}\n  }}")
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def _rows(kernels: Budgets) -> str:
    files = []
    for file, instances in sorted(kernels.items()):
        rows = [
            f"      {json.dumps(name)}: {json.dumps(figures)}"
            for name, figures in sorted(instances.items())
        ]
        files.append(f"    {json.dumps(file)}: {{\n" + ",\n".join(rows) + "\n    }")
    return ",\n".join(files)


def _laid_over(first: Budgets, other: Budgets) -> Budgets:
    """What `first` has, with the figures of `other` where it says something else."""
    return {
        file: {
            name: {**figures, **other.get(file, {}).get(name, {})}
            for name, figures in instances.items()
        }
        for file, instances in first.items()
    }


def _differing(own: Budgets, first: Budgets) -> Budgets:
    """The figures of `own` that count as others than those of `first`."""
    found: Budgets = {}
    for file, instances in first.items():
        for name, figures in instances.items():
            mine = own.get(file, {}).get(name, {})
            others = {a: mine[a] for a in figures if a in mine and _difference(figures[a], mine[a])}
            if others:
                found.setdefault(file, {})[name] = others
    return found


def all_files() -> list[str]:
    """Every kernel file."""
    return sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.cu"))


def version() -> str:
    return ".".join(str(n) for n in nvrtc.version())


def measure(
    files: Sequence[str],
    architectures: Sequence[int],
    step: Callable[[int, str], None] = lambda steps, what: None,
) -> tuple[Budgets, list[Finding]]:
    """Compile `files` for `architectures`: what each instance takes, and errors and warnings."""
    taken: Budgets = {file: {} for file in files}
    found: list[Finding] = []

    def one(work: tuple[str, int]) -> tuple[str, int, nvrtc.Compiled | GpukitError]:
        file, arch = work
        try:
            return file, arch, nvrtc.compile_source(load(file), arch)
        except GpukitError as error:
            return file, arch, error

    with ThreadPoolExecutor(2) as pool:
        for file, arch, made in pool.map(one, [(f, a) for f in files for a in architectures]):
            again = f"python -m gpukit.launch.nvrtc kernels/{file} --arch {arch}"
            if isinstance(made, GpukitError):
                found.append(Finding("compile", file, str(made), again))
            else:
                if made.warnings:
                    text = f"sm_{arch}: {made.warnings[0]}"
                    found.append(Finding("compile", file, text, again))
                for name, resources in made.resources.items():
                    figures = [getattr(resources, field) for field in FIELDS]
                    taken[file].setdefault(name, {})[str(arch)] = figures
            step(1, f"compile {file} sm_{arch}")
    return taken, found


def compare(taken: Budgets, table: Table, here: str) -> list[Finding]:
    """Where what kernels take is not what their budget says."""
    found: list[Finding] = []
    for file, instances in taken.items():
        known = table.of(here).get(file, {})
        for name in sorted(set(known) - set(instances)):
            found.append(_finding(file, f"{name} has a budget, but is no longer built"))
        for name, by_arch in instances.items():
            changes: dict[str, list[str]] = {}
            for arch, figures in by_arch.items():
                budget = known.get(name, {}).get(arch)
                text = _difference(budget, figures, spills_only=here not in table.versions)
                if text:
                    changes.setdefault(text, []).append(f"sm_{arch}")
            for text, where in changes.items():
                found.append(_finding(file, f"{name} {text} on {', '.join(where)}"))
    return found


def merge(table: Table, taken: Budgets, here: str, everything: bool) -> Table:
    """The budgets of NVRTC `here` with `taken` put in; only it, where everything was measured.

    Raises SettingError for a version that is not kept.
    """
    if here not in VERSIONS:
        raise SettingError(
            f"budgets are kept for NVRTC {' and '.join(VERSIONS)}, this is {here}: "
            f"pip install 'nvidia-cuda-nvrtc=={VERSIONS[0]}.*', or see GPUKIT_NVRTC"
        )
    if everything:
        return Table({**table.versions, here: taken})
    kernels = {file: dict(instances) for file, instances in table.of(here).items()}
    for file, instances in taken.items():
        old = kernels.get(file, {})
        kernels[file] = {name: {**old.get(name, {}), **by} for name, by in instances.items()}
    return Table({**table.versions, here: kernels})


def _difference(budget: list[int] | None, figures: list[int], spills_only: bool = False) -> str:
    if budget is None:
        return "has no budget yet"
    now, then = dict(zip(FIELDS, figures)), dict(zip(FIELDS, budget))
    if spills_only:
        now, then = ({f: d[f] for f in d if f.startswith("spill")} for d in (now, then))
    changed = [f for f in now if _counted(f, now[f]) != _counted(f, then[f])]
    return ", ".join(f"{f.replace('_', ' ')} {then[f]} -> {now[f]}" for f in changed)


def _counted(field: str, figure: int) -> int:
    return -(-figure // EIGHT) if field == "registers" else figure


def _finding(file: str, text: str) -> Finding:
    return Finding("budget", file, text, AGAIN)
