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
    from matplotlib.figure import Figure

    from gpukit.models.base import Base

TRAIN, VALIDATION, BEST = "#4c78a8", "#e4572e", "#777777"


def save_curves(path: str | Path, history: Sequence[Mapping[str, float]], title: str) -> None:
    """Draw loss and accuracy by epoch to a PNG; the best epoch by validation is marked."""
    from matplotlib.ticker import MaxNLocator

    figure = _figure(9, 3.6)
    figure.suptitle(title, fontsize=11)
    epochs = [int(logs["epoch"]) + 1 for logs in history]
    for place, name in enumerate(("loss", "accuracy"), start=1):
        axes = figure.add_subplot(1, 2, place)
        for prefix, label, colour in (("", "train", TRAIN), ("val_", "validation", VALIDATION)):
            values = [logs.get(prefix + name, math.nan) for logs in history]
            if not np.isnan(values).all():
                axes.plot(epochs, values, "o-", ms=3, lw=1.5, color=colour, label=label)
        if history and "val_accuracy" in history[0]:
            best = best_epoch(history)
            axes.axvline(best + 1, color=BEST, lw=1, ls=":", label=f"best epoch ({best + 1})")
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    _save(figure, path)


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
    weights = kernel.numpy()
    count = weights.shape[3]
    columns = min(count, 12)
    rows = -(-count // columns)
    figure = _figure(0.9 * columns + 0.4, 0.9 * rows + 0.6)
    figure.suptitle(f"{model.name}: filters of {kernel.name.rpartition('/')[0]}", fontsize=11)
    for i in range(count):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.set_axis_off()
        one = weights[..., i]
        if one.shape[2] == 3:
            low, high = one.min(), one.max()
            axes.imshow((one - low) / max(high - low, 1e-12), interpolation="nearest")
            continue
        flat = one[..., int(np.abs(one).sum((0, 1)).argmax())]
        reach = max(float(np.abs(flat).max()), 1e-12)
        axes.imshow(flat, cmap="RdBu_r", vmin=-reach, vmax=reach, interpolation="nearest")
    _save(figure, path)


def _figure(width: float, height: float) -> Figure:
    # Figure without pyplot: no window, no global state, no backend of the user's disturbed.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Any, path: str | Path) -> None:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    write_atomically(path, content.getvalue())
