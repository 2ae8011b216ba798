"""Prints the table of a model's layers, and what a training step takes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from gpukit.errors import printable
from gpukit.graph.network import Network
from gpukit.inspect.placement import BATCH, memory, traffic
from gpukit.inspect.sizes import LayerSizes, sizes

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


_NAME = 100  # characters of a name

NOTES: dict[str, Callable[[Network, Sequence[LayerSizes]], list[str]]] = {}
"""Lines under the table of a network, by the name of the model; the network enters its own."""


class _Column(NamedTuple):
    title: str
    text: Callable[[LayerSizes], str]
    total: Callable[[LayerSizes], int] | None = None
    show: Callable[[int], str] = "{:,}".format
    left: bool = False


def show(model: Network, batch: int | None = None) -> None:
    """Print the table of `model` to stdout, in as many columns as its width allows.

    With `batch`, or where there are several devices (batch 128), also what a training step on so
    many images takes: memory a device, and bytes that cross between them.
    """
    from rich.console import Console
    from rich.text import Text

    figures = sizes(model)
    # A pipe has no width: the table then takes what it needs instead of being cut.
    console = Console(width=None if sys.stdout.isatty() else 1000, highlight=False, markup=False)
    at = _times((model.input_shape or ())[1:])
    console.print(
        Text.assemble((printable(model.name, _NAME), "bold"), f"  input {at}"), soft_wrap=True
    )
    images = len(model.input_shape or ()) == 4
    several = len(model.devices) > 1
    console.print(_widest_that_fits(console, figures, images, several), crop=False)
    lines = _totals(model, figures)
    if several or batch is not None:
        lines += _step(model, batch or BATCH)
    lines += _together(model)
    for line in lines + notes(model, figures):
        console.print(printable(line), soft_wrap=True)


def notes(model: Network, figures: Sequence[LayerSizes]) -> list[str]:
    """The lines that NOTES has for `model`, whose sizes are `figures`."""
    return NOTES[model.name](model, figures) if model.name in NOTES else []


def _widest_that_fits(
    console: Console, figures: list[LayerSizes], images: bool, several: bool
) -> Table:
    """The table with all columns, or without those that can be missed most easily."""
    from rich.measure import Measurement

    columns = _columns(images, several)
    for dropped in ((), ("biases",), ("biases", "kind"), ("biases", "kind", "units")):
        made = _table(figures, [c for c in columns if c.title not in dropped])
        wanted = Measurement.get(console, console.options.update(max_width=1000), made).maximum
        if wanted <= console.width:
            break
    # Rather broken lines than figures cut short.
    made.width = wanted
    return made


def _columns(images: bool, several: bool) -> list[_Column]:
    columns = [
        _Column("layer", lambda f: printable(f.name, _NAME), left=True),
        _Column("kind", lambda f: f.kind, left=True),
        _Column("output", lambda f: _times(f.output_shape)),
        _Column("units", lambda f: _count(f.units), lambda f: f.units),
        _Column("connections", lambda f: _count(f.connections), lambda f: f.connections),
        _Column("weights", lambda f: _count(f.weights), lambda f: f.weights),
        _Column("biases", lambda f: _count(f.biases), lambda f: f.biases),
        _Column("multiply-\nadds", lambda f: _count(f.multiply_adds), lambda f: f.multiply_adds),
        _Column(
            "memory",
            lambda f: _bytes(f.activation_bytes) if f.activation_bytes else "–",
            lambda f: f.activation_bytes,
            _bytes,
        ),
    ]
    if images:
        columns.append(_Column("receptive\nfield", lambda f: _times(f.receptive_field)))
    if several:
        columns.insert(2, _Column("device", lambda f: f.device, left=True))
    return columns


def _table(figures: list[LayerSizes], columns: Sequence[_Column]) -> Table:
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, show_footer=True, pad_edge=False, padding=(0, 1, 0, 0))
    for i, column in enumerate(columns):
        total = "total" if i == 0 else ""
        if column.total is not None:
            total = column.show(sum(column.total(f) for f in figures))
        justify = "left" if column.left else "right"
        made.add_column(column.title, total, justify=justify, vertical="bottom", no_wrap=True)  # type: ignore[arg-type]
    for f in figures:
        made.add_row(*(column.text(f) for column in columns))
    return made


def _totals(model: Network, figures: list[LayerSizes]) -> list[str]:
    weights, biases = sum(f.weights for f in figures), sum(f.biases for f in figures)
    fixed = sum(f.fixed for f in figures)
    parts = f"{weights:,} weights, {biases:,} biases"
    if fixed:
        parts += f", {fixed:,} moving averages"
    everything = weights + biases + fixed
    size = _bytes(everything * model.dtype.itemsize)
    memory = _bytes(sum(f.activation_bytes for f in figures))
    operations = sum(f.multiply_adds for f in figures)
    trainable = sum(f.trainable for f in figures)
    return [
        f"{everything:,} parameters ({parts}): {size} as {model.dtype}",
        f"{trainable:,} trainable, {everything - trainable:,} frozen",
        f"{operations:,} multiply-adds and {memory} of activations an image",
    ]


def _together(model: Network) -> list[str]:
    """Which layers are computed as one, so that the values between are not kept."""
    chains = [step.together for step in model.plan().steps if step.together]
    names = [" + ".join(layer.name for layer in chain) for chain in chains]
    return [f"computed together: {', '.join(names)}"] if names else []


def _step(model: Network, batch: int) -> list[str]:
    """What a training step on `batch` images takes."""
    lines = [
        f"{m.device}: {_bytes(m.total)} in a step on {batch} images: parameters "
        f"{_bytes(m.parameters)}, gradients {_bytes(m.gradients)}, momentum {_bytes(m.slots)}, "
        f"activations {_bytes(m.activations)}"
        for m in memory(model, batch)
    ]
    for t in traffic(model, batch):
        images = f"; and the images, {_bytes(t.images)}" if t.images else ""
        lines.append(
            f"{t.source} → {t.target}: {_bytes(t.total)} cross in a step on {batch} images "
            f"({_bytes(t.forward)} forward, {_bytes(t.backward)} backward){images}"
        )
    return lines


def _times(lengths: Sequence[int | None]) -> str:
    return "×".join("?" if n is None else str(n) for n in lengths)


def _count(number: int) -> str:
    return f"{number:,}" if number else "–"


def _bytes(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
