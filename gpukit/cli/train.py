"""`gpukit train`: from images to a trained network in a run folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from gpukit import models
from gpukit.cli.paths import PATH
from gpukit.core.config import whole
from gpukit.errors import DataError, SettingError, printable
from gpukit.runs import LAST, RunResult, RunSettings, is_run, latest_folder
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
@click.option("--recipe", metavar="NAME", help="Settings that go together, which other options "
              "override. lenet5: default; alexnet: small, paper. [default: the first]")  # fmt: skip
@click.option("--epochs", type=int, help=f"Passes over the images. [default: {DEFAULTS.epochs}]")
@click.option("--batch-size", type=int, help=f"Images a step. [default: {DEFAULTS.batch_size}]")
@click.option("--lr", type=float, help="Learning rate at the start. "
              f"[default: {DEFAULTS.lr}, less for other optimizers]")  # fmt: skip
@click.option("--schedule", metavar="NAME", help="How the rate falls: cosine, to 0; plateau, by "
              "ten where validation stands still. "
              f"[default: {DEFAULTS.schedule}]")  # fmt: skip
@click.option("--optimizer", metavar="NAME", help="sgd (momentum 0.9), adam, rmsprop or adagrad. "
              f"[default: {DEFAULTS.optimizer}]")  # fmt: skip
@click.option("--weight-decay", type=float, help="Added to each gradient, times the weight. "
              f"[default: {DEFAULTS.weight_decay}, 0 for other optimizers]")  # fmt: skip
@click.option("--seed", type=int, help=f"Fixes every random number. [default: {DEFAULTS.seed}]")
@click.option("--limit", type=int, metavar="N", help="Use at most N images of each part.")
@click.option("--validation-split", type=float, help="Fraction of the shuffled train part that "
              f"picks the best epoch. [default: {DEFAULTS.validation_split}]")  # fmt: skip
@click.option("--columns", type=int, help="AlexNet: 2, as in the paper, or 1. [default: 2]")
@click.option("--groups", is_flag=True, default=None, help="AlexNet: two columns as groups of one.")
@click.option("--devices", metavar="A,B", help="AlexNet: one for each column, instead of --device.")
@click.option("--width", type=float, help="AlexNet: maps and units by this factor.")
@click.option("--input-size", type=int, metavar="N", help="AlexNet: train on crops of N×N.")
@click.option("--dropout", type=float, help="AlexNet: rate after fc6 and fc7.")
@click.option("--init", metavar="NAME", help="AlexNet: gaussian, of deviation 0.01, or he.")
@click.option("--workers", type=int, metavar="N", help="Pictures: processes that read them. "
              "[default: 1]")  # fmt: skip
@click.option("--bad-images", metavar="NAME", help="Pictures that cannot be read: raise, skip "
              "or quarantine. [default: raise]")  # fmt: skip
@click.option("--levels", metavar="LOW,HIGH", help="Pictures of more than 8 bits: the values that "
              "are black and white. [default: 0,65535 of 16 bits; floats need it]")  # fmt: skip
@click.option("--accumulate", type=int, metavar="N", help="Compute each batch in N parts, one "
              "after the other: less memory, the same gradient. [default: 1]")  # fmt: skip
@click.option("--replay", type=int, metavar="EVERY", help="Compute one step in EVERY twice, and "
              "stop where its bits differ. [default: never]")  # fmt: skip
@click.option("--kernel", "kernels", multiple=True, metavar="FILE.py",
              help="Load this plug-in; may be repeated.")  # fmt: skip
@click.option("--algo", "algos", multiple=True, metavar="PRIMITIVE=NAME",
              help="Compute a primitive, and its gradients, by this implementation; "
              "may be repeated.")  # fmt: skip
@click.option("--out", type=PATH, help="Folder of the run. "
              "[default: runs/MODEL-N]")  # fmt: skip
@click.option("--keep", type=int, metavar="N", help="Keep the last N checkpoints. "
              f"[default: {DEFAULTS.keep}]")  # fmt: skip
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
    replay: int | None,
    quiet: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Train a network and keep the run in a folder.

    \b
    gpukit train lenet5
    gpukit train lenet5 --data mnist --epochs 12 --out runs/digits
    gpukit train alexnet --data pictures --devices cpu:0,cpu:1
    gpukit train --resume runs/digits
    gpukit train lenet5 --device emu --kernel mine.py --algo conv2d=mine

    MODEL is lenet5 or alexnet, which trains on folders of pictures: DIR/train/CLASS/*.jpg and
    DIR/val/CLASS/*.jpg. Defaults below are lenet5's. The folder of the run gets settings.json,
    history.jsonl, best.safetensors, last.safetensors, curves.png and filters.png. Ctrl-C stops
    after saving.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    if "device" in chosen and "devices" in chosen:
        raise SettingError("--device and --devices: give one of them")
    own = give(kernels)
    if algos:
        chosen["algo"] = choices(algos)
    folder = _folder_to_resume(model, out, resume)
    if folder is not None:
        places = {name: given[name] for name in ("device", "devices", "workers", "keep")}
        saved = RunSettings.read(folder, **places)
        settings = _resumed(saved, folder, model, chosen)
        settings = replace(settings, kernel=moved(saved.kernel, own))
    else:
        if model is None:
            raise SettingError("which model? try: gpukit train lenet5")
        settings = _with_device(RunSettings(model, **chosen, kernel=own), chosen)
    with _about(folder):
        result = run(
            settings,
            folder or out,
            resume=folder is not None,
            replay=0 if replay is None else whole("replay", replay),
            verbose=0 if quiet else 1,
            tell=(lambda text: None)
            if quiet
            else (lambda text: click.echo(printable(text), err=True)),
        )
    _report(result)
    if as_json:
        click.echo(json.dumps(asdict(result)))


@contextmanager
def _about(folder: Path | None) -> Iterator[None]:
    """Within the block, what the settings of a run that goes on ask for in vain names the run."""
    try:
        yield
    except (SettingError, DataError) as error:
        if folder is None or str(folder) in str(error):
            raise
        raise type(error)(f"{folder}: {error}") from error


def _with_device(settings: RunSettings, chosen: dict[str, Any]) -> RunSettings:
    if "device" in chosen or "devices" in chosen:
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
    if model is not None and model != saved.model:
        models.get(model)
        raise _begun_otherwise(folder, "the model", saved.model, model)
    asked = RunSettings(**{**asdict(saved), **chosen})
    for name, value in asdict(asked).items():
        if value != getattr(saved, name):
            option = "--" + name.replace("_", "-")
            raise _begun_otherwise(folder, option, getattr(saved, name), value)
    return replace(saved, algo=asked.algo) if "algo" in chosen else saved


def _begun_otherwise(folder: Path, option: str, saved: Any, asked: Any) -> SettingError:
    return SettingError(
        f"the run in {folder} was begun with {option} {saved}, not {asked}; "
        f"leave {option} out to resume it, or start a new run"
    )


def _report(result: RunResult) -> None:
    by = f" by {result.crops} crops" if result.crops > 1 else ""
    click.echo(
        f"test accuracy {result.test_accuracy:.4f}{by}   ({result.epochs} "
        f"epoch{'s' if result.epochs > 1 else ''} in {result.seconds:.1f} s, "
        f"{result.images_per_second:,.0f} images/s on {result.device})"
    )
    for line in result.colour:
        click.echo(line)
    out = printable(result.out)
    click.echo(f"curves  {out}/curves.png")
    click.echo(f"filters {out}/filters.png")
    click.echo(f"use it: gpukit predict {out} photo.png")
