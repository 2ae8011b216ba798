"""Tables on stdout."""

from __future__ import annotations

from collections.abc import Sequence

import click


def print_table(rows: Sequence[tuple[str, ...]], indent: str = "") -> None:
    """Rows of as many cells each, in columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths))
        click.echo(f"{indent}{'  '.join(cells)}".rstrip())
