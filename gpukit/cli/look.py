"""`gpukit summary` and `gpukit info`: sizes of a model; versions and devices."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
from pathlib import Path
from typing import Any

import click

from gpukit import __version__
from gpukit.errors import SettingError, printable

LARGEST = 1 << 16  # pixels of a side, or channels


@click.command()
@click.argument("model")
@click.option("--input", "input_shape", metavar="H,W,C", help="Size of the images.")
@click.option("--classes", type=click.IntRange(2), help="Number of classes.")
@click.option("--columns", type=int, help="AlexNet: 2, as in the paper, or 1. [default: 2]")
@click.option("--groups", is_flag=True, help="AlexNet: its two columns as groups of one.")
@click.option("--width", type=float, help="AlexNet: maps and units by this factor. [default: 1]")
@click.option("--input-size", type=int, metavar="N", help="AlexNet: images of N×N. [default: 227]")
@click.option("--devices", metavar="A,B", help="One for each column. [default: cpu:0,cpu:1]")
@click.option("--batch", type=click.IntRange(1), metavar="N", help="Images a training step, for "
              "memory and what crosses between devices. [default: 128]")  # fmt: skip
@click.option("--kernel", "kernels", multiple=True, metavar="FILE.py",
              help="Say what this plug-in takes over.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def summary(
    model: str,
    input_shape: str | None,
    classes: int | None,
    batch: int | None,
    kernels: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Show the layers of a model and their sizes.

    \b
    gpukit summary lenet5 --input 32,32,3 --classes 100
    gpukit summary alexnet --columns 1 --groups
    gpukit summary runs/lenet5-1

    For one image: output shape, units, connections, weights, multiply-adds, activation memory and
    receptive field. For a training step where layers are on several devices: memory of each, and
    bytes that cross. MODEL is lenet5, alexnet, the folder of a run or a checkpoint.
    """
    from dataclasses import asdict

    from gpukit import models
    from gpukit.inspect import summary as table
    from gpukit.inspect.placement import BATCH, memory, traffic
    from gpukit.inspect.sizes import sizes
    from gpukit.runs import exists, load_best

    given = {
        name: value for name, value in options.items() if value is not None and value is not False
    }
    if model not in models.ZOO and exists(Path(model)):
        if input_shape is not None or classes is not None:
            raise SettingError(f"{model} has its sizes already; leave --input and --classes out")
        _only(given, {"devices"}, f"{model} has its form already")
        made = load_best(Path(model), **(_devices(given) or {"device": "cpu"}))
    else:
        settings = _settings(model, given)
        if input_shape is not None:
            settings["input_shape"] = _image_shape(input_shape)
        if classes is not None:
            settings["classes"] = classes
        made = models.get(model)(**settings)
    if not as_json:
        table.show(made, batch)
        for line in _implementations(Path(model), kernels):
            click.echo(printable(line))
        return
    figures = sizes(made)
    facts: dict[str, Any] = {"model": made.name, "layers": [asdict(f) for f in figures]}
    for kind in ("trainable", "frozen"):
        facts[kind] = sum(getattr(f, kind) for f in figures)
    facts["batch"] = batch or BATCH
    facts["devices"] = [asdict(m) for m in memory(made, facts["batch"])]
    facts["traffic"] = [asdict(t) for t in traffic(made, facts["batch"])]
    facts["notes"] = table.notes(made, figures)
    click.echo(json.dumps(facts))


def _settings(model: str, given: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the function that builds `model`, with initial values that take no time."""
    from gpukit import models
    from gpukit.runs import recipes

    models.get(model)
    if not recipes.takes_pictures(model):
        _only(given, set(), f"{model} has one form")
        return {"device": "cpu"}
    form = {name: value for name, value in given.items() if name != "devices"}
    if form.get("groups"):
        form.setdefault("columns", 1)
    places = _devices(given) or {"devices": ("cpu", "cpu:1")[: form.get("columns", 2)]}
    return {**form, **places, "kernel_initializer": "zeros"}


def _devices(given: dict[str, Any]) -> dict[str, Any]:
    return {"devices": given["devices"].split(",")} if "devices" in given else {}


def _only(given: dict[str, Any], allowed: set[str], why: str) -> None:
    for name in given:
        if name not in allowed:
            raise SettingError(f"{why}; leave --{name.replace('_', '-')} out")


def _implementations(run: Path, kernels: tuple[str, ...]) -> list[str]:
    """Which primitives use users' kernels: those of a run, and those that plug-ins take over."""
    from gpukit.cli.kernel_reports import registered_by
    from gpukit.plugins import load_kernel
    from gpukit.runs import RunSettings, is_run

    settings = RunSettings.read(run, device="cpu") if is_run(run) else None
    chosen = settings.algo if settings else {}
    lines = [f"{name}: {way}, where it takes the call" for name, way in chosen.items()]
    return lines + [line for path in kernels for line in registered_by(load_kernel(path))]


def _image_shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(n) for n in text.split(","))
    except ValueError:
        shape = ()
    if len(shape) != 3 or not 1 <= min(shape) <= max(shape) <= LARGEST:
        raise SettingError(f"--input {text}: use three sizes from 1 to {LARGEST}, as 28,28,1")
    return shape


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def info(as_json: bool) -> None:
    """Show versions, devices, BLAS, threads, folders."""
    facts = _facts()
    if as_json:
        click.echo(json.dumps(facts))
        return
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        shown = ", ".join(value) if isinstance(value, list) else value
        click.echo(f"{name:<{width}}  {shown}")


def _facts() -> dict[str, Any]:
    from gpukit import device
    from gpukit.backends.cpu.runtime import blas
    from gpukit.core import settings

    cards = device.cuda_count()
    facts: dict[str, Any] = {
        "gpukit": __version__,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "libraries": [
            f"{name} {_version(name)}"
            for name in ("numpy", "numba", "scipy-openblas32", "safetensors", "pillow")
        ],
        "devices": ["cpu", *(f"cuda:{i}" for i in range(cards))],
        "default device": device.default_device().name,
        "GPU": "ready" if cards else f"none: {device.cuda_problem()}; {device.INSTALL_CUDA}",
        "BLAS": f"{blas.version()}, private, one thread a call",
        "BLAS core type": blas.core_type(),
        "threads": settings.threads(),
        "cache": str(settings.cache_dir()),
        "data": str(settings.data_dir()),
    }
    return facts


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
