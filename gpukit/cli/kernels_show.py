"""`gpukit kernels show`: what a kernel takes on cards and does to memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from gpukit.cli.kernels_alexnet import NAME, show_alexnet
from gpukit.cli.table import print_table

if TYPE_CHECKING:
    from gpukit.core.process import Heard
    from gpukit.emulator.trace import Access
    from gpukit.verify.kernel_report import CompiledKernel
    from gpukit.verify.launches import Launch


@click.command()
@click.argument("name")
@click.option(
    "--arch", "architectures", type=int, multiple=True, metavar="SM",
    help="This card only, as 80; may be repeated. Default: all.",
)  # fmt: skip
@click.option(
    "--dtype", type=click.Choice(["float32", "float64"]), default="float32", show_default=True,
    help="Of the arrays.",
)  # fmt: skip
@click.option(
    "--blocks", type=click.IntRange(1), default=4, show_default=True, metavar="N",
    help="How many blocks of a launch are traced, from the middle of its grid.",
)  # fmt: skip
@click.option(
    "--lines", type=click.IntRange(0), default=12, show_default=True, metavar="N",
    help="How many lines of a kernel are shown, those that waste most before others.",
)  # fmt: skip
@click.option(
    "--multiprocessors", type=click.IntRange(1), default=132, show_default=True, metavar="N",
    help="Of the card that `show alexnet` counts for.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(
    name: str,
    architectures: tuple[int, ...],
    dtype: str,
    blocks: int,
    lines: int,
    multiprocessors: int,
    as_json: bool,
) -> None:
    """Show what the kernels of NAME (conv2d:direct, or a plug-in FILE.py) take, without a GPU.

    \b
    gpukit kernels show conv2d:direct --arch 80 --arch 90
    gpukit kernels show mine.py --arch 90
    gpukit kernels show alexnet --arch 90 --multiprocessors 132

    A usual call of the primitive is run on emu: which kernels it launches, with which blocks. For
    each card: registers, spilled bytes, shared memory, how many blocks an SM holds and what limits
    them, and the instructions of the hot loop. For each source line: how many 32-byte sectors a
    warp's request to global memory takes, and how many ways of bank conflicts one to shared memory
    has, beside the best that the same bytes could have.

    For `alexnet`: which kernels the layers of a training step launch, with which tiles, and how
    evenly their blocks fill a card (sm_90, unless --arch says another).
    """
    from gpukit.errors import GpukitError, SettingError
    from gpukit.launch.nvrtc import ARCHITECTURES
    from gpukit.verify import kernel_report
    from gpukit.verify.coverage import targets
    from gpukit.verify.launches import launches
    from gpukit.verify.plugins import misnamed

    unknown = sorted(set(architectures) - set(ARCHITECTURES))
    if unknown:
        known = ", ".join(str(a) for a in ARCHITECTURES)
        raise SettingError(f"no kernel is compiled for sm_{unknown[0]}; use {known}")
    if name == NAME:
        if len(architectures) > 1:
            raise SettingError("show alexnet counts for one card: use one --arch")
        show_alexnet(architectures[0] if architectures else 90, multiprocessors, as_json)
        return
    if meant := misnamed(name, "show"):
        raise SettingError(meant)
    if name.endswith(".py"):
        with printed_by(name) as heard:
            found = launches([], [name], blocks, dtype, heard)
    elif any(target.emulated for target in targets(name)):
        found = launches([name], blocks=blocks, dtype=dtype)
    else:
        raise SettingError(f"{name} is written with Numba, which emu does not run")
    if not found:
        raise GpukitError(f"{name} launches no kernel")
    shown = []
    for launch in found:
        cards = [
            kernel_report.compiled_for(launch, arch) for arch in architectures or ARCHITECTURES
        ]
        if as_json:
            shown.append(kernel_report.as_json(launch, cards))
            continue
        _print(launch, cards, kernel_report.by_line(launch.accesses), lines)
    if as_json:
        click.echo(json.dumps({"launches": shown}))


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


def _print(
    launch: Launch, cards: Sequence[CompiledKernel], accesses: list[Access], lines: int
) -> None:
    extern = f", {launch.shared} B of extern shared memory" if launch.shared else ""
    click.echo(f"{launch.kernel} ({launch.file}:{launch.line})")
    click.echo(f"  {launch.target} of {launch.call}")
    click.echo(f"  {launch.blocks} blocks of {launch.threads} threads{extern}\n")
    rows = [("", "registers", "spills", "shared", "blocks/SM", "occupancy", "limited by")]
    for card in cards:
        if card.occupancy is None:
            click.echo(f"  {card.problem}")
            continue
        taken, fits = card.resources, card.occupancy
        rows.append(
            (
                f"sm_{card.arch}",
                str(taken.registers),
                f"{taken.spill_stores}/{taken.spill_loads} B" if taken.spill_stores else "0",
                f"{taken.shared + launch.shared} B",
                str(fits.blocks),
                f"{fits.percent:.0f} %",
                ", ".join(fits.limited_by),
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
