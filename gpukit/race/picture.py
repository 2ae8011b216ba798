"""The rows of a race as a picture: how near each entrant comes to the floor, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpukit.inspect.pictures import FAINT, INK, SOFT, new_figure, png
from gpukit.race.contest import Row
from gpukit.training.checkpoint import write_atomically

COLOURS = ("#c2410c", "#1d4ed8", "#15803d", "#7e22ce", "#b45309", "#0f766e")
RIVAL_COLOURS = ("#9aa5b1", "#cbd5e1")
BAR, GAP = 0.22, 0.2  # inches that a bar, and the space between two layers, take


def save_rows(path: str | Path, rows: Sequence[Row], about: dict[str, Any]) -> None:
    """Draw bars of the share of the floor, the median beside each; void rows are pale."""
    from matplotlib.patches import Patch

    groups = list(dict.fromkeys((r.primitive, r.layer) for r in rows))
    height = len(rows) * BAR + len(groups) * GAP + 2
    figure = new_figure(10, height, layout="constrained")
    axes = figure.add_subplot()
    colours = _colours(rows)
    widest = max(r.share_of_floor for r in rows)
    y, ticks = 0.0, []
    for primitive, layer in groups:
        here = [r for r in rows if (r.primitive, r.layer) == (primitive, layer)]
        ticks.append((y + (len(here) - 1) * BAR / 2, f"{layer}\n{primitive}"))
        for row in here:
            axes.barh(
                y,
                row.share_of_floor * 100,
                height=BAR * 0.85,
                color=colours[row.name],
                alpha=0.35 if row.void else 1,
            )
            text = f" {row.ms:.3g} ms{' void' if row.void else ''}"
            axes.text(row.share_of_floor * 100, y, text, va="center", fontsize=8, color=SOFT)
            y += BAR
        y += GAP
    axes.set_yticks([at for at, _ in ticks], [label for _, label in ticks], fontsize=9, color=INK)
    axes.invert_yaxis()
    axes.set_xlim(0, widest * 115)
    if widest > 0.8:
        axes.axvline(100, color=INK, lw=1, ls=":")
    axes.set_xlabel("% of the floor: operations and bytes at this machine's measured speed")
    axes.set_title(f"{about['machine']}, {about['date']}", loc="left", fontsize=11, color=INK)
    axes.tick_params(length=0, colors=SOFT)
    axes.grid(axis="x", color=FAINT)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(
        handles=[Patch(color=colour, label=name) for name, colour in colours.items()],
        loc="outside lower center",
        ncols=len(colours),
        frameon=False,
        fontsize=9,
    )
    write_atomically(path, png(figure))


def _colours(rows: Sequence[Row]) -> dict[str, str]:
    found: dict[str, str] = {}
    for rival, palette in ((False, COLOURS), (True, RIVAL_COLOURS)):
        names = dict.fromkeys(r.name for r in rows if r.rival == rival)
        found |= {name: palette[i % len(palette)] for i, name in enumerate(names)}
    return found
