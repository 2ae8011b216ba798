"""Progress bar of long commands."""

from __future__ import annotations

from typing import Self

from gpukit.core import terminal
from gpukit.core.blocks import Closing


class Bar(Closing):
    """Progress on stderr, with the time that is left; nothing where that is no terminal.

    `counted` shows how many steps of how many are done, else their share is shown.
    """

    def __init__(self, total: float, quiet: bool, *, counted: bool) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        share = TextColumn("{task.percentage:3.0f} %  ETA")
        self._progress = Progress(
            BarColumn(),
            MofNCompleteColumn() if counted else share,
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=Console(file=terminal.stderr()),
            transient=True,
            redirect_stdout=False,
            disable=quiet or not terminal.stderr().isatty(),
        )
        self._task = self._progress.add_task("", total=total)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def close(self) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """A line of the result on stdout, before the end; the bar goes on below it."""
        import click

        self._progress.stop()
        click.echo(text)
        self._progress.start()

    def step(self, amount: float, what: str) -> None:
        """So much more is done; `what` comes now."""
        self._progress.update(self._task, advance=amount, description=what)
