"""`gpukit evaluate` and `gpukit predict`: tests trained networks, and classifies pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from gpukit import data as data_room
from gpukit.cli.paths import PATH
from gpukit.data.levels import checked
from gpukit.errors import CheckpointError, printable
from gpukit.runs import evaluation, load_best
from gpukit.runs.datasets import read_as_tested
from gpukit.runs.kernels import in_use_by
from gpukit.runs.recipes import takes_pictures
from gpukit.runs.settings import BAD_IMAGES
from gpukit.training import loop


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=PATH)
@click.option("--data", "name", metavar="NAME|DIR", help="Data set. [default: the one of the run]")
@click.option(
    "--device", metavar="NAME", help="Where to compute. [default: a GPU where there is one]"
)
@click.option("--devices", metavar="A,B", help="One for each column, instead of --device.")
@click.option("--ten-crop", is_flag=True, help="Pictures: the mean over corners and centre, and "
              "the same mirrored.")  # fmt: skip
@click.option("--workers", type=click.IntRange(0), metavar="N", help="Pictures: processes that "
              "read them. [default: 1]")  # fmt: skip
@click.option("--bad-images", type=click.Choice(BAD_IMAGES[:2]), help="Pictures that "
              "cannot be read. [default: raise]")  # fmt: skip
@click.option("--levels", metavar="LOW,HIGH", help="Pictures of more than 8 bits: the values that "
              "are black and white. [default: those of the run]")  # fmt: skip
@click.option("--kernel", "kernels", multiple=True, metavar="FILE.py", help="A plug-in of the run.")
@click.option("--limit", type=int, metavar="N", help="Use at most N images.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object on stdout.")
def evaluate(runs: tuple[Path, ...], devices: str | None, as_json: bool, **options: Any) -> None:
    """Test trained networks on a test set.

    \b
    gpukit evaluate runs/lenet5-1
    gpukit evaluate runs/lenet5-1/last.safetensors --data mnist
    gpukit evaluate runs/alexnet-1 runs/alexnet-2 --ten-crop

    RUN is the folder of a run, whose best epoch is taken, or a checkpoint. Of several runs, the
    mean of the probabilities that they give is tested too.
    """
    columns = None if devices is None else devices.split(",")
    figures = evaluation.evaluate(runs, devices=columns, tell=_tell, **options)
    for f in figures:
        whose = f"{f.name}: {f.model}" if len(figures) > 1 else f.model
        crops = f" ({f.crops} crops)" if f.crops > 1 else ""
        click.echo(
            printable(f"{whose} on {f.data}: test accuracy {f.accuracy:.4f}{crops}, ")
            + f"loss {f.loss:.4f}, {f.images:,} images"
        )
    if as_json:
        last = figures[-1]
        facts: dict[str, Any] = {
            "test_accuracy": last.accuracy,
            "test_loss": last.loss,
            "images": last.images,
            "data": last.data,
            "device": last.device,
            "crops": last.crops,
        }
        if len(figures) > 1:
            facts["runs"] = [
                {"run": f.name, "test_accuracy": f.accuracy, "test_loss": f.loss}
                for f in figures[:-1]
            ]
        click.echo(json.dumps(facts))


@click.command()
@click.argument("run", type=PATH)
@click.argument("pictures", nargs=-1, required=True, type=PATH)
@click.option(
    "--top", type=click.IntRange(1), default=3, show_default=True, help="Classes to show."
)
@click.option(
    "--device", metavar="NAME", help="Where to compute. [default: a GPU where there is one]"
)
@click.option("--levels", metavar="LOW,HIGH", help="Pictures of more than 8 bits: the values that "
              "are black and white. [default: those of the run]")  # fmt: skip
@click.option("--kernel", "kernels", multiple=True, metavar="FILE.py", help="A plug-in of the run.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object on stdout.")
def predict(
    run: Path,
    pictures: tuple[Path, ...],
    top: int,
    device: str | None,
    levels: str | None,
    kernels: tuple[str, ...],
    as_json: bool,
) -> None:
    """Say what a trained network sees in pictures.

    \b
    gpukit predict runs/lenet5-1 photo.png

    RUN is the folder of a run, whose best epoch is taken, or a checkpoint. Pictures are made like
    those that the network was trained on; what was done to each is shown.
    """
    model = load_best(run, device)
    shape = model.input_shape
    if shape is None or len(shape) != 4:
        raise CheckpointError(f"{run} is a model of {shape} inputs, not of pictures")
    height, width, channels = (n or 0 for n in shape[1:])
    names = model.class_names
    results = []
    bounds = checked(levels) or evaluation.kept(run).get("levels")
    with in_use_by(run, kernels, _tell):
        for path in pictures:
            if takes_pictures(model.name):
                image, notes = read_as_tested(path, height, bounds)
            else:
                image, notes = data_room.read_picture(
                    path, (height, width), channels, levels=bounds
                )
            probabilities = loop.predict(model, image[None])[0]
            if not np.isfinite(probabilities).all():
                raise CheckpointError(
                    f"{run} gives no probabilities for {path}, but NaN; use another checkpoint"
                )
            if probabilities.ndim != 1 or len(names or probabilities) != len(probabilities):
                raise CheckpointError(
                    f"{run} gives an output of shape {probabilities.shape} for a picture, not a "
                    f"probability for each of {len(names or [])} classes; use another checkpoint"
                )
            best = _ranked(names, probabilities)[:top]
            results.append({"picture": str(path), "done": notes, "classes": best})
            click.echo(printable(f"{path}: " + "; ".join(notes or ["used as it is"])))
            for entry in best:
                bar = "█" * round(30 * entry["probability"])
                click.echo(
                    f"  {entry['probability']:7.2%}  {printable(entry['class'], 100):<14} {bar}"
                )
    if as_json:
        click.echo(json.dumps({"predictions": results}))


def _tell(text: str) -> None:
    click.echo(printable(text), err=True)


def _ranked(names: Sequence[str] | None, probabilities: np.ndarray) -> list[dict]:
    names = names or tuple(str(i) for i in range(len(probabilities)))
    order = np.argsort(-probabilities, kind="stable")
    return [{"class": names[i], "probability": float(probabilities[i])} for i in order]
