"""`gpukit evaluate` and `gpukit predict`: what a trained network is worth, and what it says."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path

import click
import numpy as np

from gpukit import data as data_room
from gpukit.errors import CheckpointError
from gpukit.models.base import Base
from gpukit.runs import RunSettings, is_run, load_best
from gpukit.runs.kernels import in_use_again
from gpukit.training import loop


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", metavar="NAME|DIR", help="Data set. [default: the one of the run]")
@click.option(
    "--device", metavar="NAME", help="Where to compute. [default: a GPU where there is one]"
)
@click.option("--kernel", "kernels", multiple=True, metavar="FILE.py", help="A plug-in of the run.")
@click.option("--limit", type=int, metavar="N", help="Use at most N images.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object on stdout.")
def evaluate(
    run: Path,
    data: str | None,
    device: str | None,
    kernels: tuple[str, ...],
    limit: int | None,
    as_json: bool,
) -> None:
    """Test a trained network on a test set.

    \b
    gpukit evaluate runs/lenet5-1
    gpukit evaluate runs/lenet5-1/last.safetensors --data mnist

    RUN is the folder of a run, whose best epoch is taken, or a checkpoint.
    """
    model = load_best(run, device)
    if data is None:
        folder = run if run.is_dir() else run.parent
        if not is_run(folder):
            raise CheckpointError(f"{run} does not say on what it was trained; name it with --data")
        data = RunSettings.read(folder, device="cpu").data  # that device need not be here
    dataset = data_room.load(data, limit=limit)
    # The file may have been saved without a loss, or with other metrics.
    model.compile("sgd", "sparse_categorical_crossentropy", ["accuracy"])
    with _kernels_of(run, kernels):
        figures = loop.evaluate(model, dataset.test_images, dataset.test_labels)
    click.echo(
        f"{model.name} on {dataset.name}: test accuracy {figures['accuracy']:.4f}, "
        f"loss {figures['loss']:.4f}, {len(dataset.test_images):,} images"
    )
    if as_json:
        click.echo(
            json.dumps(
                {
                    "test_accuracy": figures["accuracy"],
                    "test_loss": figures["loss"],
                    "images": len(dataset.test_images),
                    "data": dataset.name,
                    "device": str(model.device),
                }
            )
        )


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("pictures", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--top", type=click.IntRange(1), default=3, show_default=True, help="Classes to show."
)
@click.option(
    "--device", metavar="NAME", help="Where to compute. [default: a GPU where there is one]"
)
@click.option("--kernel", "kernels", multiple=True, metavar="FILE.py", help="A plug-in of the run.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object on stdout.")
def predict(
    run: Path,
    pictures: tuple[Path, ...],
    top: int,
    device: str | None,
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
    results = []
    with _kernels_of(run, kernels):
        for path in pictures:
            image, notes = data_room.read_picture(path, (height, width), channels)
            probabilities = loop.predict(model, image[None])[0]
            best = _ranked(model, probabilities)[:top]
            results.append({"picture": str(path), "done": notes, "classes": best})
            click.echo(f"{path}: " + "; ".join(notes or ["used as it is"]))
            for entry in best:
                bar = "█" * round(30 * entry["probability"])
                click.echo(f"  {entry['probability']:7.2%}  {entry['class']:<14} {bar}")
    if as_json:
        click.echo(json.dumps({"predictions": results}))


def _kernels_of(run: Path, given: tuple[str, ...]) -> AbstractContextManager[None]:
    """The users' kernels by which the run was trained, and those given now."""
    folder = run if run.is_dir() else run.parent
    settings = RunSettings.read(folder, device="cpu") if is_run(folder) else None
    return in_use_again(settings, given, lambda text: click.echo(text, err=True))


def _ranked(model: Base, probabilities: np.ndarray) -> list[dict]:
    names = model.class_names or tuple(str(i) for i in range(len(probabilities)))
    order = np.argsort(-probabilities, kind="stable")
    return [{"class": names[i], "probability": float(probabilities[i])} for i in order]
