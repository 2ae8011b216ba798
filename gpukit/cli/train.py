"""`gpukit train`: from images to a trained network in a run folder."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from gpukit.errors import SettingError
from gpukit.runs import LAST, RunResult, RunSettings, is_run, latest_folder, new_folder
from gpukit.runs import train as run
from gpukit.runs.kernels import choices, give, moved

DEFAULTS = RunSettings("lenet5")


@click.command()
@click.argument("model", required=False)
@click.option("--data", metavar="NAME|DIR", help="Data set, by name or folder. "
              f"[default: {DEFAULTS.data}, part of gpukit]")  # fmt: skip
@click.option(
    "--device",
    metavar="NAME",
    help="cpu, cpu:1, cuda, cuda:0 … [default: a GPU where there is one]",
)
@click.option("--dtype", metavar="NAME", help=f"float32 or float64. [default: {DEFAULTS.dtype}]")
@click.option("--epochs", type=int, help=f"Passes over the images. [default: {DEFAULTS.epochs}]")
@click.option("--batch-size", type=int, help=f"Images a step. [default: {DEFAULTS.batch_size}]")
@click.option("--lr", type=float, help="Learning rate at the start; it falls to 0 along a cosine. "
              f"[default: {DEFAULTS.lr}, less for other optimizers]")  # fmt: skip
@click.option("--optimizer", metavar="NAME", help="sgd (momentum 0.9), adam, rmsprop or adagrad. "
              f"[default: {DEFAULTS.optimizer}]")  # fmt: skip
@click.option("--weight-decay", type=float, help="Added to each gradient, times the weight. "
              f"[default: {DEFAULTS.weight_decay}, 0 for other optimizers]")  # fmt: skip
@click.option("--seed", type=int, help=f"Fixes every random number. [default: {DEFAULTS.seed}]")
@click.option("--limit", type=int, metavar="N", help="Use at most N images of each part.")
@click.option("--validation-split", type=float, help="Fraction of the shuffled train part that "
              f"picks the best epoch. [default: {DEFAULTS.validation_split}]")  # fmt: skip
@click.option("--kernel", "kernels", multiple=True, metavar="FILE.py",
              help="Load this plug-in; may be repeated.")  # fmt: skip
@click.option("--algo", "algos", multiple=True, metavar="PRIMITIVE=NAME",
              help="Compute a primitive, and its gradients, by this implementation; "
              "may be repeated.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run. "
              "[default: runs/MODEL-N]")  # fmt: skip
@click.option("--resume", metavar="PATH|auto", help="Go on with the run in PATH; auto: with --out "
              "or the latest run, or start afresh where there is none.")  # fmt: skip
@click.option("--quiet", is_flag=True, help="Say nothing on stderr.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object on stdout.")
def train(
    model: str | None,
    out: Path | None,
    resume: str | None,
    kernels: tuple[str, ...],
    algos: tuple[str, ...],
    quiet: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Train a network and keep the run in a folder.

    \b
    gpukit train lenet5
    gpukit train lenet5 --data mnist --epochs 12 --out runs/digits
    gpukit train --resume runs/digits
    gpukit train lenet5 --device emu --kernel mine.py --algo conv2d=mine

    MODEL is lenet5. The folder gets settings.json, history.jsonl, best.safetensors,
    last.safetensors, curves.png and filters.png. Ctrl-C stops after saving.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    own = give(kernels)
    if algos:
        chosen["algo"] = choices(algos)
    folder = _folder_to_resume(model, out, resume)
    if folder is not None:
        saved = RunSettings.read(folder, given["device"])
        settings = _resumed(saved, folder, model, chosen)
        settings = replace(settings, kernel=moved(saved.kernel, own))
    else:
        if model is None:
            raise SettingError("which model? try: gpukit train lenet5")
        settings = _with_device(RunSettings(model, **chosen, kernel=own), chosen)
    target = folder or out or new_folder(settings.model)
    result = run(
        settings,
        target,
        resume=folder is not None,
        verbose=0 if quiet else 1,
        tell=(lambda text: None) if quiet else (lambda text: click.echo(text, err=True)),
    )
    _report(result)
    if as_json:
        click.echo(json.dumps(asdict(result)))


def _with_device(settings: RunSettings, chosen: dict[str, Any]) -> RunSettings:
    if "device" in chosen:
        return settings
    from gpukit.device import default_device

    return replace(settings, device=default_device().name)


def _folder_to_resume(model: str | None, out: Path | None, resume: str | None) -> Path | None:
    """The folder of the run to go on with; None to start a new one."""
    if resume is None:
        return None
    if resume != "auto":
        path = Path(resume)
        folder = path.parent if path.name == LAST else path
        if out is not None and out != folder:
            raise SettingError(f"--resume {resume} and --out {out} differ; give one of them")
        return folder
    if out is not None:
        return out if is_run(out) else None
    if model is None:
        raise SettingError("--resume auto: of which model? try: gpukit train lenet5 --resume auto")
    return latest_folder(model)


def _resumed(
    saved: RunSettings, folder: Path, model: str | None, chosen: dict[str, Any]
) -> RunSettings:
    """The saved settings; only where it runs may differ, or the bits would."""
    asked = RunSettings(**{**asdict(saved), "model": model or saved.model, **chosen})
    for name, value in asdict(asked).items():
        if value != getattr(saved, name):
            option = "the model" if name == "model" else "--" + name.replace("_", "-")
            raise SettingError(
                f"the run in {folder} was begun with {option} {getattr(saved, name)}, not {value}; "
                f"leave {option} out to resume it, or start a new run"
            )
    return saved


def _report(result: RunResult) -> None:
    click.echo(
        f"test accuracy {result.test_accuracy:.4f}   ({result.epochs} "
        f"epoch{'s' if result.epochs > 1 else ''} in {result.seconds:.1f} s, "
        f"{result.images_per_second:,.0f} images/s on {result.device})"
    )
    click.echo(f"curves  {result.out}/curves.png")
    click.echo(f"filters {result.out}/filters.png")
    click.echo(f"use it: gpukit predict {result.out} photo.png")
