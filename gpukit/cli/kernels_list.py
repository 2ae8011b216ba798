"""`gpukit kernels list`: which implementations there are, and what is known of each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from gpukit.cli.table import print_table

if TYPE_CHECKING:
    from gpukit.verify.inventory import ListedKernel


@click.command(name="list")
@click.option("--kernel", "plugins", multiple=True, metavar="FILE.py", help="With this plug-in.")
@click.option(
    "--registers", is_flag=True, help="Show what threads take on every card, not what is proven."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def list_kernels(plugins: tuple[str, ...], registers: bool, as_json: bool) -> None:
    """List every primitive with its implementations, the default first.

    Where there is none, the definition in NumPy runs, on cards too. Beside each kernel for cards:
    the dtypes it is built for, and what `kernels check` has shown of it on this machine, if its
    text is still the same: for how many architectures it compiles, and how many random cases held
    on emu, under sanitizers, in Numba's simulator, on a card. Plug-ins, those of --kernel and those
    that installed packages offer, come last, with their origin.
    """
    from gpukit.dispatch.primitive import REFERENCE
    from gpukit.launch.numba import problem
    from gpukit.plugins import entries, load_kernel
    from gpukit.verify.coverage import KINDS, Target, implementations, primitives
    from gpukit.verify.inventory import listed

    loaded = [load_kernel(path) for path in plugins]
    found = {name: implementations(name) for name in primitives()}
    items = {
        name: [listed(Target(name, algo)) for algo in ways["cuda"]] for name, ways in found.items()
    }
    if as_json:
        content = {
            "primitives": [
                {"name": name, **ways, "kernels": [_as_json(i) for i in items[name]]}
                for name, ways in found.items()
            ],
            "plugins": [{"origin": plugin.origin, "names": plugin.names} for plugin in loaded],
            "offered": [asdict(entry) for entry in entries()],
        }
        click.echo(json.dumps(content))
        return
    if registers:
        print_table(_rows_of_registers([i for row in items.values() for i in row]))
        click.echo("\nthe most of any kernel of it, as in budgets.json; + bytes spilled")
        return
    rows: list[tuple[str, ...]] = [("primitive", *KINDS, "dtypes", *_PROVEN)]
    for name, ways in found.items():
        cpu = ", ".join(ways["cpu"]) or f"({REFERENCE})"
        if not items[name]:
            rows.append((name, cpu, f"({REFERENCE})", *[""] * (1 + len(_PROVEN))))
        for number, one in enumerate(items[name]):
            first = (name, cpu) if number == 0 else ("", "")
            rows.append((*first, one.target.algo, _dtypes(one), *_proven(one)))
    print_table(rows)
    missing = [name for name in found if not items[name]]
    click.echo(
        f"\n{len(found) - len(missing)} of {len(found)} have a CUDA kernel; "
        f"({REFERENCE}) means that the definition runs on the device's arrays"
    )
    if not any(i.facts.cases for row in items.values() for i in row):
        click.echo("nothing was checked on this machine yet: gpukit kernels check --all")
    if problem():
        click.echo(f"numba, numba_im2col: {problem()}")
    for plugin in loaded:
        for line in limits(plugin):
            click.echo(line)
    for entry in entries():
        click.echo(f"{entry.name}: offered by {entry.package} ({entry.module}), not loaded yet")


def _dtypes(one: ListedKernel) -> str:
    """A kernel's float types; for one that only moves elements, the sizes that these may have."""
    named = [d for d in one.dtypes if d[0].isalpha()]
    sizes = [d.partition("-")[0] for d in one.dtypes if not d[0].isalpha()]
    return ", ".join(named) or (f"any of {', '.join(sizes)} bytes" if sizes else "")


# What is proven, in columns: by a mode of `kernels check`, or by the compiler.
_PROVEN = {
    "compiled": "",
    "emulated": "plain",
    "asan": "asan",
    "tsan": "tsan",
    "cheats": "cheats",
    "simulated": "simulator",
    "on a card": "card",
}


def _proven(one: ListedKernel) -> list[str]:
    """The cells of a kernel in the columns of `_PROVEN`: how much held, "-" for nothing."""
    from gpukit.launch.nvrtc import ARCHITECTURES

    of = f"{len(one.facts.compiled)} of {len(ARCHITECTURES)}"
    cells = []
    for mode in _PROVEN.values():
        if not mode:
            cells.append(of if one.facts.compiled else "-")
        elif mode == "cheats":
            cells.append("none" if one.facts.cases.get(mode) else "-")
        else:
            cells.append(str(one.facts.cases.get(mode) or "-"))
    return cells


def _rows_of_registers(items: Sequence[ListedKernel]) -> list[tuple[str, ...]]:
    from gpukit.launch.nvrtc import ARCHITECTURES

    rows = [("kernel", *(f"sm_{arch}" for arch in ARCHITECTURES))]
    for one in items:
        cells = []
        for arch in ARCHITECTURES:
            spilled = one.spills.get(arch)
            text = str(one.registers.get(arch, "-"))
            cells.append(f"{text} + {spilled} B" if spilled else text)
        rows.append((str(one.target), *cells))
    return rows


def _as_json(one: ListedKernel) -> dict[str, Any]:
    return {
        "name": one.target.algo,
        "backends": one.backends,
        "dtypes": one.dtypes,
        "compiled": one.facts.compiled,
        "cases": one.facts.cases,
        "registers": one.registers,
        "spills": one.spills,
    }


def limits(plugin: Any) -> list[str]:
    """What a plug-in registers, and what falls to defaults because it does not."""
    from gpukit.dispatch.preference import GRADIENTS
    from gpukit.dispatch.primitive import registry

    lines = []
    for primitive, impl in plugin.implementations:
        limits = "what its supports takes" if impl.supports else "everything"
        lines.append(f"{primitive.name}:{impl.name} ({impl.kind}) from {plugin.origin}: {limits}")
        names = [f"{primitive.name}_{g}" for g in GRADIENTS]
        lacking = [n for n in names if n in registry and not registry[n].find(impl.kind, impl.name)]
        if lacking:
            lines.append(f"  {', '.join(lacking)}: no {impl.name}, their defaults")
    return lines
