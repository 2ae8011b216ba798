"""What `gpukit kernels` prints: findings, tables and JSON objects."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from gpukit.cli.table import print_table

if TYPE_CHECKING:
    from gpukit.core.process import Heard
    from gpukit.plugins import Plugin
    from gpukit.race.alexnet import Filled
    from gpukit.static.finding import Finding
    from gpukit.verify.check import Outcome
    from gpukit.verify.inventory import ListedKernel
    from gpukit.verify.kernel_report import KernelReport

MOST_SHOWN = 30  # findings; more of them have one cause
# Columns of `kernels list` that say what is proven: by a mode of `check`, or by the compiler.
_PROVEN = {
    "compiled": "",
    "emulated": "plain",
    "asan": "asan",
    "tsan": "tsan",
    "cheats": "cheats",
    "simulated": "simulator",
    "on a card": "card",
}
_ALEXNET = (
    "layer", "call", "kernel", "ranges", "blocks", "threads", "registers", "blocks/SM", "waves",
    "last", "filled", "even", "columns", "rows",
)  # fmt: skip


@contextmanager
def printed_by(plugin: str) -> Iterator[Heard]:
    """Within the block, what a plug-in prints in its processes is heard; then stderr shows it."""
    from gpukit.core.process import distinct

    lines: list[str] = []
    try:
        yield lines.extend
    finally:
        if lines:
            click.echo(f"{plugin} printed:", err=True)
        for line in distinct(lines):
            click.echo(f"  {line}", err=True)


def line_of(finding: Finding) -> str:
    """A finding with the command that shows it again."""
    return f"{finding.check} {finding.target}: {finding.text}\n  again: {finding.again}"


def print_outcome(outcome: Outcome, label: str) -> None:
    """The end of `kernels check`, below the findings, which were shown at once."""
    from gpukit.verify.kernel_report import occupancy_table

    if len(outcome.findings) > MOST_SHOWN:
        click.echo(f"… and {len(outcome.findings) - MOST_SHOWN} more; --json has them all")
    for kernel, taken in outcome.resources.items():
        by_text: dict[str, list[str]] = {}
        for arch, text in taken.items():
            by_text.setdefault(text, []).append(f"sm_{arch}")
        for text, where in by_text.items():
            click.echo(f"{kernel}: {text} on {', '.join(where)}")
    if outcome.occupancy:
        print_table(occupancy_table(outcome.occupancy))
    for what in (*outcome.left_out, *outcome.not_seen):
        click.echo(f"not checked: {what}")
    counts = ", ".join(f"{count} {mode}" for mode, count in outcome.cases.items()) or "none"
    verdict = "all hold" if outcome.ok else f"{len(outcome.findings)} FAILED"
    click.echo(f"{label}: {outcome.compiled} compilations, cases run: {counts}; {verdict}")


def outcome_as_json(outcome: Outcome, seed: int) -> str:
    """The JSON object of `kernels check`."""
    content = {
        "ok": outcome.ok,
        "targets": outcome.targets,
        "compilations": outcome.compiled,
        "cases": outcome.cases,
        "seed": seed,
        "findings": [asdict(finding) for finding in outcome.findings],
        "resources": outcome.resources,
        "launches": [report.as_json() for report in outcome.occupancy],
        "left_out": "; ".join(outcome.left_out),
        "not_seen": outcome.not_seen,
    }
    return json.dumps(content)


def print_launch(report: KernelReport, lines: int) -> None:
    """A launch of `kernels show`: resources for each architecture, then accesses by source line."""
    from gpukit.verify.kernel_report import by_line

    launch, cards = report.launch, report.cards
    accesses = by_line(launch.accesses)
    extern = f", {launch.shared} B of extern shared memory" if launch.shared else ""
    click.echo(f"{launch.kernel} ({launch.file}:{launch.line})")
    click.echo(f"  {launch.target} of {launch.call}")
    click.echo(f"  {launch.blocks} blocks of {launch.threads} threads{extern}\n")
    rows = [("", "registers", "spills", "shared", "blocks/SM", "occupancy", "limited by")]
    for card in cards:
        if card.occupancy is None:
            click.echo(f"  {card.problem}")
            continue
        taken, filled = card.resources, card.occupancy
        rows.append(
            (
                f"sm_{card.arch}",
                str(taken.registers),
                f"{taken.spill_stores}/{taken.spill_loads} B" if taken.spill_stores else "0",
                f"{taken.shared + launch.shared} B",
                str(filled.blocks),
                f"{filled.percent:.0f} %",
                ", ".join(filled.limited_by),
            )
        )
    print_table(rows, "  ")
    for card in cards:
        if card.mix is not None:
            click.echo(f"  sm_{card.arch} {card.mix}")
            moves = sorted(card.widths.items())
            click.echo(f"  sm_{card.arch} moves by {', '.join(f'{n} {w}' for w, n in moves)}")
    click.echo(f"\n  memory, as {launch.traced} blocks of {launch.blocks} asked for it")
    if not lines:
        return
    table: list[tuple[str, ...]] = [
        ("line", "", "array", "bytes", "requests", "lanes", "each", "at best", "worst")
    ]
    for a in accesses[:lines]:
        unit = "sectors" if a.space == "global" else "ways"
        table.append(
            (
                " < ".join(a.places),
                f"{a.space} {a.kind}",
                a.array,
                str(a.bytes),
                str(a.requests),
                f"{a.lanes / a.requests:.0f}",
                f"{a.each:.2f} {unit}",
                f"{a.best:.2f}",
                str(a.worst),
            )
        )
    print_table(table, "  ")
    if len(accesses) > lines:
        click.echo(f"  … and {len(accesses) - lines} more; --lines {len(accesses)} has them all")
    if any(a.cut for a in accesses):
        click.echo("  the launch asked for more than was written down; trace fewer --blocks")
    click.echo()


def print_inventory(
    found: dict[str, dict[str, list[str]]], kernels: dict[str, list[ListedKernel]]
) -> None:
    """The table of `kernels list`: implementations by primitive, and what is proven of each."""
    from gpukit.dispatch.primitive import REFERENCE
    from gpukit.verify.coverage import KINDS

    rows: list[tuple[str, ...]] = [("primitive", *KINDS, "dtypes", *_PROVEN)]
    for name, algos in found.items():
        cpu = ", ".join(algos["cpu"]) or f"({REFERENCE})"
        if not kernels[name]:
            rows.append((name, cpu, f"({REFERENCE})", *[""] * (1 + len(_PROVEN))))
        for number, one in enumerate(kernels[name]):
            first = (name, cpu) if number == 0 else ("", "")
            rows.append((*first, one.target.algo, _dtypes(one), *_proven(one)))
    print_table(rows)
    missing = [name for name in found if not kernels[name]]
    click.echo(
        f"\n{len(found) - len(missing)} of {len(found)} have a CUDA kernel; "
        f"({REFERENCE}) means that the definition runs on the device's arrays"
    )


def _dtypes(one: ListedKernel) -> str:
    """A kernel's float types; for one that only moves elements, the sizes that these may have."""
    named = [d for d in one.dtypes if d[0].isalpha()]
    sizes = [d.partition("-")[0] for d in one.dtypes if not d[0].isalpha()]
    return ", ".join(named) or (f"any of {', '.join(sizes)} bytes" if sizes else "")


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


def print_registers(kernels: Sequence[ListedKernel]) -> None:
    """The table of `kernels list --registers`."""
    from gpukit.launch.nvrtc import ARCHITECTURES

    rows = [("kernel", *(f"sm_{arch}" for arch in ARCHITECTURES))]
    for one in kernels:
        cells = []
        for arch in ARCHITECTURES:
            spilled = one.spills.get(arch)
            text = str(one.registers.get(arch, "-"))
            cells.append(f"{text} + {spilled} B" if spilled else text)
        rows.append((str(one.target), *cells))
    print_table(rows)
    click.echo("\nthe most of any kernel of it, as in budgets.json; + bytes spilled")


def kernel_as_json(one: ListedKernel) -> dict[str, Any]:
    found = asdict(one)
    return {"name": found.pop("target")["algo"], **found.pop("facts"), **found}


def registered_by(plugin: Plugin) -> list[str]:
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


def print_alexnet(found: Sequence[Filled], arch: int, multiprocessors: int) -> None:
    """The table of `kernels show alexnet`."""
    from gpukit.race.alexnet import BATCH

    click.echo(
        f"One of AlexNet's two columns, batch {BATCH}, float32, on sm_{arch} with "
        f"{multiprocessors} multiprocessors: counted, no card has confirmed it.\n"
    )
    rows: list[tuple[str, ...]] = [_ALEXNET]
    for f in found:
        rows.append(
            (
                f.layer,
                f.primitive,
                f.kernel,
                str(f.ranges),
                str(f.blocks),
                str(f.threads),
                str(f.resources.registers),
                str(f.resident),
                *(f"{value:.2f}" for value in (f.waves, f.last, f.filled, f.even)),
                *("" if share is None else f"{share:.2f}" for share in (f.columns, f.rows)),
            )
        )
    print_table(rows)
    click.echo(
        "\nwaves: blocks, in those that all multiprocessors hold at one time; last: how much of\n"
        "the last wave is filled; filled: of all waves; even: of the multiprocessors' time, if a\n"
        "block alone on one has its whole rate; columns, rows: the share of tiles that is used."
    )


def alexnet_as_json(f: Filled) -> dict[str, object]:
    return {**asdict(f), "waves": f.waves, "last": f.last, "filled": f.filled, "even": f.even}
