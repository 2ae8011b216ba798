"""`gpukit summary` and `gpukit info`: the sizes of a model, and of what it runs on."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
from pathlib import Path
from typing import Any

import click

from gpukit import __version__

LARGEST = 1 << 16  # pixels of a side, or channels


@click.command()
@click.argument("model")
@click.option("--input", "input_shape", metavar="H,W,C", help="Size of the images.")
@click.option("--classes", type=click.IntRange(2), help="Number of classes.")
@click.option("--kernel", "kernels", multiple=True, metavar="FILE.py",
              help="Say what this plug-in takes over.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def summary(
    model: str,
    input_shape: str | None,
    classes: int | None,
    kernels: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show the layers of a model and their sizes.

    \b
    gpukit summary lenet5 --input 32,32,3 --classes 100
    gpukit summary runs/lenet5-1

    For one image: output shape, units, connections, weights, multiply-adds, activation memory and
    receptive field. MODEL is lenet5, the folder of a run or a checkpoint.
    """
    from dataclasses import asdict

    from gpukit import models
    from gpukit.errors import SettingError
    from gpukit.inspect.sizes import sizes
    from gpukit.runs import exists, load_best

    if model not in models.ZOO and exists(Path(model)):
        if input_shape is not None or classes is not None:
            raise SettingError(f"{model} has its sizes already; leave --input and --classes out")
        made = load_best(Path(model), "cpu")
    else:
        settings: dict[str, Any] = {"device": "cpu"}
        if input_shape is not None:
            settings["input_shape"] = _image_shape(input_shape)
        if classes is not None:
            settings["classes"] = classes
        made = models.get(model)(**settings)
    if as_json:
        click.echo(json.dumps({"model": made.name, "layers": [asdict(f) for f in sizes(made)]}))
    else:
        made.summary()
        for line in _implementations(Path(model), kernels):
            click.echo(line)


def _implementations(run: Path, kernels: tuple[str, ...]) -> list[str]:
    """What computes by users' kernels: those of a run, and what plug-ins take over."""
    from gpukit.backends.plugins import load_kernel
    from gpukit.cli.kernels_list import limits
    from gpukit.runs import RunSettings, is_run

    settings = RunSettings.read(run, device="cpu") if is_run(run) else None
    chosen = settings.algo if settings else {}
    lines = [f"{name}: {way}, where it takes the call" for name, way in chosen.items()]
    return lines + [line for path in kernels for line in limits(load_kernel(path))]


def _image_shape(text: str) -> tuple[int, ...]:
    from gpukit.errors import SettingError

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
    from gpukit import device, settings
    from gpukit.backends.cpu import blas

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
