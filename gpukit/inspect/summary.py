"""Prints what a model is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpukit.inspect.sizes import LayerSizes, sizes

if TYPE_CHECKING:
    from rich.table import Table

    from gpukit.models.base import Base


def show(model: Base) -> None:
    """Print the table of `model` to stdout."""
    import sys

    from rich.console import Console

    figures = sizes(model)
    # A pipe has no width: the table then takes what it needs instead of being cut.
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table(model, figures))
    parameters = sum(f.weights + f.biases for f in figures)
    memory = sum(f.activation_bytes for f in figures)
    console.print(
        f"{parameters:,} parameters ({sum(f.biases for f in figures):,} of them biases), "
        f"{sum(f.multiply_adds for f in figures):,} multiply-adds and {_bytes(memory)} of "
        f"activations an image, {_bytes(parameters * model.dtype.itemsize)} of {model.dtype} "
        "parameters",
        highlight=False,
        soft_wrap=True,
    )


def table(model: Base, figures: list[LayerSizes]) -> Table:
    """The table that `show` prints."""
    from rich.table import Table

    shape = model.input_shape
    at = "×".join(str(n) for n in (shape or ())[1:])
    made = Table(title=f"{model.name}: input {at}", title_justify="left", show_footer=True)
    totals = (
        f"{sum(f.units for f in figures):,}",
        f"{sum(f.connections for f in figures):,}",
        f"{sum(f.weights for f in figures):,}",
        f"{sum(f.biases for f in figures):,}",
        f"{sum(f.multiply_adds for f in figures):,}",
        _bytes(sum(f.activation_bytes for f in figures)),
    )
    made.add_column("layer", "total")
    made.add_column("kind")
    made.add_column("output", justify="right")
    for title, total in zip(
        ("units", "connections", "weights", "biases", "multiply-adds", "activations"), totals
    ):
        made.add_column(title, total, justify="right")
    made.add_column("receptive field", justify="right")
    for f in figures:
        made.add_row(
            f.name,
            f.kind,
            "×".join(str(n) for n in f.output_shape),
            f"{f.units:,}",
            f"{f.connections:,}",
            f"{f.weights:,}",
            f"{f.biases:,}",
            f"{f.multiply_adds:,}",
            _bytes(f.activation_bytes),
            "×".join(str(n) for n in f.receptive_field),
        )
    return made


def _bytes(count: int) -> str:
    for unit, size in (("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
