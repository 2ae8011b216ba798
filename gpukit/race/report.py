"""What a race is shown as: a table, lines on who was refused, one JSON object."""

from __future__ import annotations

import datetime
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from gpukit import __version__
from gpukit.device import Device
from gpukit.dispatch.declaration import Problem
from gpukit.dispatch.precision import FULL
from gpukit.race.ceilings import side
from gpukit.race.contest import VOID_SPREAD, Mean, Note, Outcome, Row, means
from gpukit.race.peaks import Ceilings
from gpukit.race.problems import form_of

WIDTH = 140  # that the table needs
_NAMED = 6  # so many primitives are named in the title


def machine(device: Device) -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "date": datetime.date.today().isoformat(),
        "device": device.name,
        "gpukit": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        **side(device).machine(device),
    }


def console() -> Console:
    """For stdout; at least as wide as the table."""
    made = Console(file=sys.stdout)
    made.width = max(made.width, WIDTH)
    return made


def title(problems: Sequence[Problem], device: Device) -> str:
    """What is raced, in one line."""
    first = problems[0]
    letter = form_of(first.primitive).letters[0]
    networks = ", ".join(dict.fromkeys(p.network for p in problems))
    of = f"{networks}, {letter} = {first.sizes[0]}" if networks else first.form
    names = list(dict.fromkeys(p.primitive for p in problems))
    what = ", ".join(names) if len(names) <= _NAMED else f"{len(names)} primitives"
    return f"{what}: {of}, on {device}"


def headline(about: dict[str, Any], found: Ceilings) -> str:
    """The machine and its ceilings in one line."""
    flushed = "emptied before each run" if found.flushed else "warm"
    if found.cached_gbps:
        flushed += f", at most {_figure(found.cached_gbps)} GB/s within"
    return (
        f"{about['machine']}, {about['date']}; measured ceilings: {_figure(found.gflops)} GFLOP/s, "
        f"{_figure(found.gbps)} GB/s ({found.how}); cache {found.cache >> 20} MiB, {flushed}"
    )


def show(outcome: Outcome, console: Console) -> None:
    """Print the table, then who was refused or left out."""
    if outcome.rows:
        console.print(_table(outcome))
        say(
            console,
            "ms: medians; /default, /rival: time over theirs, below 1 is faster; GFLOP/s and GB/s "
            "with their shares of the\nmeasured ceilings; (c): all data fit into the cache; void: "
            f"spread over {VOID_SPREAD:.0%}, something else was running;\nsum: all layers, each as "
            "often as the network has it",
            style="dim",
        )
    for line in _gathered(outcome.refused):
        say(console, f"REFUSED {line}", style="red")
    for line in _gathered(outcome.left_out):
        say(console, f"left out: {line}")
    if not outcome.rows:
        say(console, "nothing was timed")


def say(console: Console, text: str, style: str | None = None) -> None:
    """A line as it is, however long."""
    console.print(text, markup=False, highlight=False, soft_wrap=True, style=style)


def _gathered(notes: list[Note]) -> list[str]:
    """A line for each reason, with all the layers that it holds for."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for note in notes:
        found.setdefault((note.name, note.primitive, note.why), []).append(note.layer)
    return [
        f"{name} on {', '.join(layers)} ({primitive}): {why}"
        for (name, primitive, why), layers in found.items()
    ]


def _table(outcome: Outcome) -> Table:
    rows = outcome.rows
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("layer", no_wrap=True)
    table.add_column("who", no_wrap=True)
    for name in ("ms", "spread", "/default", "/rival", "GFLOP/s", "GB/s", "of floor"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    several = len({r.primitive for r in rows}) > 1
    previous: tuple[str, str] | None = None
    for row in rows:
        here = (row.primitive, row.layer)
        if previous is not None and here != previous:
            table.add_section()
        label = f"{row.layer}  {row.primitive}" if several else row.layer
        table.add_row(label if here != previous else "", *_cells(row), style=_style(row))
        previous = here
    table.add_section()
    for mean in means(outcome):
        table.add_row(*_mean_cells(mean, several), style="bold")
    return table


def _style(row: Row) -> str:
    return "dim" if row.void else "cyan" if row.rival else ""


def _cells(row: Row) -> list[str]:
    notes = ["void"] if row.void else []
    notes += [row.variant] if row.rival else ["default"] if row.default else []
    notes += [row.precision] if row.precision != FULL.name else []
    return [
        row.name,
        f"{row.ms:.3f}",
        f"{row.spread:.0%}",
        _ratio(row.ratio_to_default),
        _ratio(row.ratio_to_rival),
        f"{_figure(row.gflops)} {row.share_of_gflops:4.0%}",
        f"{_figure(row.gbps)} {row.share_of_gbps:4.0%}{'(c)' if row.in_cache else ''}",
        f"{row.share_of_floor:.0%}",
        ", ".join(notes),
    ]


def _mean_cells(mean: Mean, several: bool) -> list[str]:
    label = "geometric mean" + (f"  {mean.primitive}" if several else "")
    share = "" if mean.share_of_floor is None else f"{mean.share_of_floor:.0%}"
    network = "" if mean.network_ms is None else f"sum {mean.network_ms:.4g} ms"
    count = f"{mean.rows} of {mean.of}" if mean.rows else "void"
    return [
        label,
        mean.name,
        "",
        "",
        _ratio(mean.ratio_to_default),
        _ratio(mean.ratio_to_rival),
        "",
        "",
        share,
        ", ".join(part for part in (count, network) if part),
    ]


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def as_dict(outcome: Outcome, about: dict[str, Any]) -> dict[str, Any]:
    """Everything, for JSON."""
    return {
        "ok": outcome.ok,
        **about,
        "ceilings": asdict(outcome.ceilings),
        "rows": [asdict(row) for row in outcome.rows],
        "means": [asdict(mean) for mean in means(outcome)],
        "refused": [asdict(note) for note in outcome.refused],
        "left_out": [asdict(note) for note in outcome.left_out],
    }
