"""What every kernel may take on every card: registers, shared memory, spilled bytes.

budgets.json holds what NVRTC reported when a person last looked. A change that moves a figure fails
until someone writes it down, and the diff shows what it cost:

    gpukit kernels check --all --fuzz 0 --update-budgets

A card hands registers out in eights a thread, and NVRTC gives one kernel 147 and, seldom, 148
of them; so eights are compared. Another version of NVRTC allots them its own way: its figures are
only held to spills.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from gpukit.backends import nvrtc
from gpukit.backends.sources import FOLDER, load
from gpukit.errors import GpukitError
from gpukit.kernel_checks.fuzz import Finding

FILE = Path(__file__).with_name("budgets.json")
EIGHT = 8
FIELDS = ("registers", "shared", "local", "spill_stores", "spill_loads")

# budgets[file][instance]["75"] = figures in the order of FIELDS
Budgets = dict[str, dict[str, dict[str, list[int]]]]


@dataclass
class Table:
    """Budgets, and the NVRTC that gave them."""

    nvrtc: str
    kernels: Budgets


def read(path: Path = FILE) -> Table:
    """The committed budgets; none where there is no file."""
    if not path.exists():
        return Table("", {})
    content = json.loads(path.read_text(encoding="utf-8"))
    return Table(content["nvrtc"], content["kernels"])


def write(table: Table, path: Path = FILE) -> None:
    """One line an instance, so that a diff reads well."""
    files = []
    for file, instances in sorted(table.kernels.items()):
        rows = [
            f"      {json.dumps(name)}: {json.dumps(figures)}"
            for name, figures in sorted(instances.items())
        ]
        files.append(f"    {json.dumps(file)}: {{\n" + ",\n".join(rows) + "\n    }")
    text = ",\n".join(files)
    head = f'  "nvrtc": {json.dumps(table.nvrtc)},\n  "fields": {json.dumps(FIELDS)},\n'
    path.write_text(f'{{\n{head}  "kernels": {{\n{text}\n  }}\n}}\n', encoding="utf-8")


def all_files() -> list[str]:
    """Every kernel file."""
    return sorted(path.name for path in FOLDER.glob("*.cu"))


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
            again = f"python -m gpukit.backends.nvrtc kernels/{file} --arch {arch}"
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
        known = table.kernels.get(file, {})
        for name in sorted(set(known) - set(instances)):
            found.append(_finding(file, f"{name} has a budget, but is no longer built"))
        for name, by_arch in instances.items():
            changes: dict[str, list[str]] = {}
            for arch, figures in by_arch.items():
                budget = known.get(name, {}).get(arch)
                text = _difference(budget, figures, same=here == table.nvrtc)
                if text:
                    changes.setdefault(text, []).append(f"sm_{arch}")
            for text, where in changes.items():
                found.append(_finding(file, f"{name} {text} on {', '.join(where)}"))
    return found


def merge(table: Table, taken: Budgets, here: str, everything: bool) -> Table:
    """The budgets with `taken` put in; only it, where everything was measured."""
    if everything:
        return Table(here, taken)
    kernels = {file: dict(instances) for file, instances in table.kernels.items()}
    for file, instances in taken.items():
        old = kernels.get(file, {})
        kernels[file] = {name: {**old.get(name, {}), **by} for name, by in instances.items()}
    return Table(here, kernels)


def _difference(budget: list[int] | None, figures: list[int], same: bool) -> str:
    if budget is None:
        return "has no budget yet"
    now, then = dict(zip(FIELDS, figures)), dict(zip(FIELDS, budget))
    if not same:
        now, then = ({f: d[f] for f in d if f.startswith("spill")} for d in (now, then))
    changed = [f for f in now if _counted(f, now[f]) != _counted(f, then[f])]
    return ", ".join(f"{f.replace('_', ' ')} {then[f]} -> {now[f]}" for f in changed)


def _counted(field: str, figure: int) -> int:
    return -(-figure // EIGHT) if field == "registers" else figure


def _finding(file: str, text: str) -> Finding:
    return Finding("budget", file, text, "gpukit kernels check --all --fuzz 0 --update-budgets")
