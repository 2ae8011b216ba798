"""Pictures of training: curves of loss and accuracy, filters of the first layer."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpukit.errors import SettingError
from gpukit.training.checkpoint import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gpukit.models.base import Base

DPI = 120
INK, SOFT, FAINT = "#222222", "#666666", "#e6e6e6"
TRAIN, VALIDATION = "#9aa5b1", "#c2410c"

TILE = 96  # pixels that a filter takes at least, in the picture of the filters
GAP, MARGIN, LETTER, MIN_WIDTH = 14, 28, 13, 664


def save_curves(path: str | Path, history: Sequence[Mapping[str, float]], title: str) -> None:
    """Draw loss and accuracy by epoch to a PNG; the best epoch by validation is marked."""
    figure = _figure(10, 4.2)
    figure.set_layout_engine("constrained", w_pad=0.15, h_pad=0.1, wspace=0.05)
    best = best_epoch(history)
    if history and "val_accuracy" in history[best]:
        title += f"  ·  best epoch {best + 1} of {len(history)}"
    figure.suptitle(title, x=0.015, ha="left", fontsize=14, fontweight="bold", color=INK)
    for place, name in enumerate(("loss", "accuracy"), start=1):
        _draw_curve(figure.add_subplot(1, 2, place), history, name, best)
    _save(figure, path)


def _draw_curve(axes: Axes, history: Sequence[Mapping[str, float]], name: str, best: int) -> None:
    from matplotlib.ticker import MaxNLocator

    epochs = [int(logs["epoch"]) + 1 for logs in history]
    marker = "o" if len(history) <= 30 else None
    for prefix, label, colour in (("", "train", TRAIN), ("val_", "validation", VALIDATION)):
        values = np.array([logs.get(prefix + name, math.nan) for logs in history], np.float64)
        values[~np.isfinite(values)] = math.nan
        if np.isnan(values).all():
            continue
        axes.plot(epochs, values, color=colour, lw=2.2, marker=marker, ms=4, label=label)
        if prefix and not math.isnan(values[best]):
            axes.plot(epochs[best], values[best], "o", ms=12, mfc="none", mec=colour, mew=2)
            axes.axvline(epochs[best], color=colour, lw=1, ls=":", zorder=0)
            axes.set_title(f"{values[best]:.3f} at epoch {epochs[best]}", loc="right", fontsize=13,
                           fontweight="bold", color=colour)  # fmt: skip
    axes.set_title(name, loc="left", fontsize=13, color=INK)
    axes.set_xlabel("epoch", fontsize=12, color=SOFT)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.tick_params(labelsize=12, colors=SOFT, length=0)
    axes.margins(y=0.12)
    if epochs:
        beside = max(0.5, 0.04 * len(epochs))
        axes.set_xlim(epochs[0] - beside, epochs[-1] + beside)
    axes.grid(axis="y", color=FAINT)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    if axes.lines:
        axes.legend(frameon=False, fontsize=12, labelcolor=INK, handlelength=1.4)


def best_epoch(history: Sequence[Mapping[str, float]]) -> int:
    """Index of the epoch with the highest validation accuracy, ties by the lower loss.

    Without validation figures, the last epoch.
    """
    if not history or "val_accuracy" not in history[0]:
        return len(history) - 1
    return max(
        range(len(history)),
        key=lambda i: (history[i]["val_accuracy"], -history[i]["val_loss"], -i),
    )


def save_filters(path: str | Path, model: Base) -> None:
    """Draw the filters of the first convolution to a PNG, each scaled to its own range.

    One channel is drawn from blue (negative) over white to red; three channels as colours; for
    other depths the strongest channel of each filter. Raises SettingError where there is none.
    """
    kernel = next((p for p in model.parameters if p.name.endswith("/kernel") and p.ndim == 4), None)
    if kernel is None:
        raise SettingError(f"{model.name} has no convolution, so there are no filters to draw")
    weights = kernel.numpy().astype(np.float64)
    rows, columns, depth, count = weights.shape
    name = kernel.name.rpartition("/")[0]
    what = f"{count} filter{'s' if count > 1 else ''} {rows}×{columns}×{depth} of {name}"
    title = f"{model.name}  ·  {what}"
    cell = max(2, -(-TILE // max(rows, columns)))  # pixels a weight: whole, so that it stays crisp
    across = min(count, 12)
    width = max(across * (columns * cell + GAP) - GAP, LETTER * len(title), MIN_WIDTH) + 2 * MARGIN
    label = 24
    down = -(-count // across)
    height = 64 + down * (rows * cell + label + GAP) + 48
    figure = _figure(width / DPI, height / DPI)
    _text(figure, MARGIN, 24, title, size=12, colour=INK, weight="bold", va="top")
    for i in range(count):
        one = weights[..., i]
        if depth != 3:
            one = one[..., int(np.abs(one).sum((0, 1)).argmax())]
        x = MARGIN + (i % across) * (columns * cell + GAP)
        y = 64 + (i // across) * (rows * cell + label + GAP)
        reach = float(np.abs(one).max())
        _image(figure, x, y, _colours(one, reach), cell)
        _text(figure, x + columns * cell / 2, y + rows * cell + 5, f"±{reach:#.2g}", va="top",
              ha="center", size=8)  # fmt: skip
    _draw_scale(figure, height - 38, depth)
    _save(figure, path)


def _colours(one: np.ndarray, reach: float) -> np.ndarray:
    """A filter (R, S) or (R, S, 3) as colours (R, S, 3) from 0 to 1, `reach` being the extreme."""
    if one.ndim == 3:
        return 0.5 + one / (2 * max(reach, 1e-12))
    from matplotlib import colormaps

    return colormaps["RdBu_r"](0.5 + one / (2 * max(reach, 1e-12)))[..., :3]


def _draw_scale(figure: Figure, y: float, depth: int) -> None:
    """What the colours mean, under the filters."""
    if depth == 3:
        _text(figure, MARGIN, y, "channels as red, green, blue; grey is 0; each filter by its own "
              "range, given below it", size=9)  # fmt: skip
        return
    _text(figure, MARGIN, y + 7, "negative", size=9)
    _image(figure, MARGIN + 72, y, _colours(np.linspace(-1, 1, 120)[None].repeat(14, 0), 1.0), 1)
    whose = "each filter" if depth == 1 else "the strongest channel"
    note = f"positive; {whose} by its own range, given below"
    _text(figure, MARGIN + 202, y + 7, note, size=9)


def _image(figure: Figure, x: float, y: float, colours: np.ndarray, cell: int) -> None:
    """Paint an array at (x, y) pixels from the top left, `cell` pixels a value, unsmoothed."""
    pixels = colours.repeat(cell, 0).repeat(cell, 1)
    bottom = figure.bbox.height - y - pixels.shape[0]
    figure.figimage(pixels, round(x), round(bottom), origin="upper")


def _text(
    figure: Figure,
    x: float,
    y: float,
    text: str,
    *,
    size: float,
    colour: str = SOFT,
    weight: str = "normal",
    ha: str = "left",
    va: str = "center",
) -> None:
    """Write at (x, y) pixels from the top left."""
    at = (x / figure.bbox.width, 1 - y / figure.bbox.height)
    figure.text(*at, text, fontsize=size, color=colour, fontweight=weight, ha=ha, va=va)


def _figure(width: float, height: float) -> Figure:
    # Figure without pyplot: no window, no global state, no backend of the user's disturbed.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI)


def _save(figure: Any, path: str | Path) -> None:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DPI)
    write_atomically(path, content.getvalue())
