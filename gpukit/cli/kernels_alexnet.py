"""`gpukit kernels show alexnet`: how evenly the launches of a training step fill a card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from gpukit.cli.table import print_table

if TYPE_CHECKING:
    from gpukit.verify.alexnet import Filled

NAME = "alexnet"  # of no primitive
HEAD = (
    "layer", "call", "kernel", "parts", "blocks", "threads", "registers", "blocks/SM", "waves",
    "last", "filled", "even", "columns", "rows",
)  # fmt: skip


def show_alexnet(arch: int, multiprocessors: int, as_json: bool) -> None:
    """Print the table, or one JSON object."""
    from gpukit.verify.alexnet import BATCH, filled

    found = filled(arch, multiprocessors)
    if as_json:
        click.echo(json.dumps({"launches": [_plain(one) for one in found]}))
        return
    click.echo(
        f"One of AlexNet's two columns, batch {BATCH}, float32, on sm_{arch} with "
        f"{multiprocessors} multiprocessors: counted, no card has confirmed it.\n"
    )
    print_table(_rows(found))
    click.echo(
        "\nwaves: blocks, in those that all multiprocessors hold at one time; last: how much of\n"
        "the last wave is filled; filled: of all waves; even: of the multiprocessors' time, if a\n"
        "block alone on one has its whole rate; columns, rows: the share of tiles that is used."
    )


def _rows(found: Sequence[Filled]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [HEAD]
    for f in found:
        rows.append(
            (
                f.layer,
                f.primitive,
                f.kernel,
                str(f.parts),
                str(f.blocks),
                str(f.threads),
                str(f.resources.registers),
                str(f.resident),
                *(f"{value:.2f}" for value in (f.waves, f.last, f.filled, f.even)),
                *("" if share is None else f"{share:.2f}" for share in (f.columns, f.rows)),
            )
        )
    return rows


def _plain(f: Filled) -> dict[str, object]:
    return {**asdict(f), "waves": f.waves, "last": f.last, "filled": f.filled, "even": f.even}
