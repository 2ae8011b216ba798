"""Pictures of training: curves of loss and accuracy, filters of the first layer."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpukit.errors import SettingError
from gpukit.graph.network import Network
from gpukit.inspect.filters import RANDOM, Filters, first_filters
from gpukit.training.checkpoint import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 120
INK, SOFT, FAINT = "#222222", "#666666", "#e6e6e6"
TRAIN, VALIDATION = "#9aa5b1", "#c2410c"

TILE = 96  # pixels that a filter takes at least, in the picture of the filters
GAP, MARGIN, LETTER, MIN_WIDTH = 14, 28, 13, 664
LABEL, HEAD = 24, 34


def save_curves(path: str | Path, history: Sequence[Mapping[str, float]], title: str) -> None:
    """Draw loss and accuracy by epoch to a PNG; the best epoch by validation is marked."""
    write_atomically(path, curves(history, title))


def curves(history: Sequence[Mapping[str, float]], title: str) -> bytes:
    """What `save_curves` writes."""
    title = title.encode(errors="replace").decode()  # the bytes of a name that is no text
    figure = new_figure(10, 4.2)
    figure.set_layout_engine("constrained", w_pad=0.15, h_pad=0.1, wspace=0.05)
    best = best_epoch(history)
    if history and "val_accuracy" in history[best]:
        title += f"  ·  best epoch {best + 1} of {len(history)}"
    figure.suptitle(
        title, x=0.015, ha="left", fontsize=14, fontweight="bold", color=INK, parse_math=False
    )
    for place, name in enumerate(("loss", "accuracy"), start=1):
        _draw_curve(figure.add_subplot(1, 2, place), history, name, best)
    return png(figure)


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

    Of epochs without validation figures, the last one.
    """
    validated = [i for i, logs in enumerate(history) if {"val_accuracy", "val_loss"} <= logs.keys()]
    return max(
        validated,
        key=lambda i: (history[i]["val_accuracy"], -history[i]["val_loss"], -i),
        default=len(history) - 1,
    )


def save_filters(path: str | Path, model: Network) -> None:
    """Draw the `filters` of `model` to a PNG."""
    write_atomically(path, filters(model))


def filters(model: Network) -> bytes:
    """Draw the filters that see the images to a PNG, each scaled to its own range.

    Those of several columns come below each other, headed by name, device and, for colour images,
    the column's `colour` share. One channel is drawn from blue (negative) over white to red; three
    channels as colours; for other depths the strongest channel of each filter. Raises SettingError
    where there is no convolution.
    """
    found = first_filters(model)
    if not found:
        raise SettingError(f"{model.name} has no convolution, so there are no filters to draw")
    blocks = [_Block(filters) for filters in found]
    if len(blocks) == 1 and found[0].colour is None:
        title, heads = f"{model.name}  ·  {blocks[0].title}", []
    else:
        title, heads = f"{model.name}  ·  filters of the first layer", [b.head for b in blocks]
    texts = [LETTER * len(title), *(LETTER * 0.8 * len(head) for head in heads)]
    width = max(*(b.width for b in blocks), *texts, MIN_WIDTH) + 2 * MARGIN
    top = HEAD if heads else 0
    height = 64 + sum(b.height + top for b in blocks) + 48
    figure = new_figure(width / DPI, height / DPI)
    _text(figure, MARGIN, 24, title, size=12, colour=INK, weight="bold", va="top")
    y = 64.0
    for i, block in enumerate(blocks):
        if heads:
            _text(figure, MARGIN, y + 10, heads[i], size=10, colour=INK)
        block.draw(figure, y + top)
        y += block.height + top
    _draw_scale(figure, height - 38, found[0].weights.shape[2])
    return png(figure)


class _Block:
    """The filters of one column in rows of up to twelve."""

    def __init__(self, filters: Filters) -> None:
        self._filters = filters
        self._rows, self._columns, self.depth, self._count = filters.weights.shape
        # Pixels a weight: whole, so that it stays crisp.
        self._cell = max(2, -(-TILE // max(self._rows, self._columns)))
        self._across = min(self._count, 12)
        self._step = self._rows * self._cell + LABEL + GAP

    @property
    def width(self) -> int:
        return self._across * (self._columns * self._cell + GAP) - GAP

    @property
    def height(self) -> int:
        return -(-self._count // self._across) * self._step

    @property
    def title(self) -> str:
        sizes = f"{self._rows}×{self._columns}×{self.depth}"
        many = "s" if self._count > 1 else ""
        return f"{self._count} filter{many} {sizes} of {self._filters.name}"

    @property
    def head(self) -> str:
        """Title, device, and how colour-specific the filters are."""
        text = f"{self.title} on {self._filters.device}"
        if self._filters.colour is not None:
            text += f"  ·  colour share {self._filters.colour:.2f} (random filters: {RANDOM:.2f})"
        return text

    def draw(self, figure: Figure, top: float) -> None:
        """Paint the filters from `top` pixels down, the range of each below it."""
        for i in range(self._count):
            one = self._filters.weights[..., i]
            if self.depth != 3:
                one = one[..., int(np.abs(one).sum((0, 1)).argmax())]
            x = MARGIN + (i % self._across) * (self._columns * self._cell + GAP)
            y = top + (i // self._across) * self._step
            reach = float(np.abs(one).max())
            _image(figure, x, y, _colours(one, reach), self._cell)
            _text(figure, x + self._columns * self._cell / 2, y + self._rows * self._cell + 5,
                  f"±{reach:#.2g}", va="top", ha="center", size=8)  # fmt: skip


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
    figure.text(
        *at, text, fontsize=size, color=colour, fontweight=weight, ha=ha, va=va, parse_math=False
    )


def new_figure(width: float, height: float, **settings: Any) -> Figure:
    """A figure of these inches, without pyplot: no window, no global state, no user's backend."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, **settings)


def png(figure: Figure) -> bytes:
    """The bytes of its PNG file."""
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # drawn as a box
        figure.savefig(content, format="png", dpi=DPI)
    return content.getvalue()
