"""Trains by settings into a folder, and takes a run up where it stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpukit import data, models, schedules
from gpukit import settings as process
from gpukit.errors import CheckpointError, DataError, SettingError
from gpukit.inspect import pictures
from gpukit.models.base import Base
from gpukit.models.saving import load_into
from gpukit.runs.folder import BEST, CURVES, FILES, FILTERS, HISTORY, LAST, SETTINGS, exists, held
from gpukit.runs.keeper import Keeper
from gpukit.runs.kernels import in_use
from gpukit.runs.settings import RECIPES, RunSettings
from gpukit.training import loop
from gpukit.training.checkpoint import write_atomically


@dataclass(frozen=True)
class RunResult:
    """What a finished run came to; `seconds` and `images_per_second` are of training alone."""

    test_accuracy: float
    seconds: float
    images_per_second: float
    epochs: int
    device: str
    out: str


def train(
    settings: RunSettings,
    out: Path,
    *,
    resume: bool = False,
    verbose: Any = "auto",
    tell: Callable[[str], None] = lambda text: None,
) -> RunResult:
    """Train by `settings` into the folder `out`; with `resume`, go on from its last checkpoint.

    `tell` gets a line of news now and then. The test set is read once, at the end, by the weights
    of the best epoch. Raises GpukitErrors before anything is written where the settings cannot
    work, and Interrupted, after saving, on SIGINT and SIGTERM.
    """
    with in_use(settings, tell):
        return _train(settings, out, resume, verbose, tell)


def _train(
    settings: RunSettings, out: Path, resume: bool, verbose: Any, tell: Callable[[str], None]
) -> RunResult:
    if not resume:
        _refuse_taken(out)
    process.threads()  # refused here, if at all
    dataset = data.load(settings.data, limit=settings.limit)
    x, y, x_val, y_val = data.train_validation_split(
        dataset.train_images, dataset.train_labels, settings.validation_split, settings.seed
    )
    model = _make_model(settings, dataset, x)
    with held(out):
        if resume:
            _take_up(model, out, dataset)
        else:
            _refuse_taken(out)
            write_atomically(out / SETTINGS, settings.to_json().encode())
        tell(
            f"{settings.model} on {dataset.name}: {len(x):,} images to train, {len(x_val):,} to "
            f"validate, {len(dataset.test_images):,} to test; {model.device}, {settings.dtype}"
        )
        state = model.training_state
        if state.epoch or state.batch:
            tell(f"going on after epoch {state.epoch}, step {state.batch} of {settings.epochs}")
        keeper = Keeper(out)
        with keeper.watching_signals():
            loop.fit(
                model,
                x,
                y,
                batch_size=settings.batch_size,
                epochs=settings.epochs,
                verbose=verbose,
                callbacks=[keeper],
                validation_data=(x_val, y_val) if len(x_val) else None,
                seed=settings.seed,
                state=state,
            )
        keeper.write_history(model)
        pictures.save_curves(out / CURVES, state.history, f"{settings.model} on {dataset.name}")
        load_into(model, out / BEST)
        pictures.save_filters(out / FILTERS, model)
    epochs = len(state.history)
    best = pictures.best_epoch(state.history)
    tell(f"best epoch {best + 1} of {epochs}; reading the test set once")
    accuracy = loop.evaluate(model, dataset.test_images, dataset.test_labels)["accuracy"]
    seconds = sum(logs["seconds"] for logs in state.history)
    return RunResult(
        test_accuracy=accuracy,
        seconds=round(seconds, 3),
        images_per_second=round(len(x) * epochs / seconds, 1) if seconds else 0.0,
        epochs=epochs,
        device=str(model.device),
        out=str(out),
    )


def load_best(path: Path, device: str | None = None) -> Base:
    """The model of the best epoch of the run in the folder `path`, or in a checkpoint file."""
    if path.is_dir():
        if not (path / BEST).exists():
            raise CheckpointError(f"{path} holds no trained network: there is no {BEST} in it")
        path = path / BEST
    return models.load_model(path, device)


def _refuse_taken(out: Path) -> None:
    """Nothing of another run, or of the user's, is overwritten."""
    if exists(out / SETTINGS):
        raise SettingError(
            f"{out} holds a run already; go on with it by --resume {out}, or choose another --out"
        )
    taken = [name for name in FILES if exists(out / name)]
    if taken:
        raise SettingError(f"{out} holds a file {taken[0]} already; choose another --out")


def _take_up(model: Base, out: Path, dataset: data.Dataset) -> None:
    """Bring `model` to where the run in `out` was last saved; a run that never was begins anew."""
    if not (out / LAST).exists():
        if (out / HISTORY).exists():
            raise CheckpointError(f"{out} has lost its {LAST}; start a new run")
        return
    images = model.normalise
    load_into(model, out / LAST)
    if model.normalise != images:
        raise CheckpointError(
            f"{out}: the images of {dataset.name} are not those that the run began with; bring "
            "them back, or start a new run"
        )
    if model.training_state.history and not (out / BEST).exists():
        raise CheckpointError(f"{out} has lost its {BEST}; start a new run")


def _make_model(settings: RunSettings, dataset: data.Dataset, x: np.ndarray) -> Base:
    if len(x) == 0:
        raise DataError(f"{dataset.name}: no images are left to train on; raise --limit")
    make = models.get(settings.model)
    model = make(
        dataset.image_shape,
        dataset.classes,
        device=settings.device,
        dtype=settings.dtype,
        seed=settings.seed,
    )
    steps = data.batch_count(len(x), settings.batch_size) * settings.epochs
    assert settings.lr is not None
    optimizer = RECIPES[settings.optimizer].make(
        schedules.CosineDecay(settings.lr, steps), weight_decay=settings.weight_decay
    )
    model.compile(optimizer, "sparse_categorical_crossentropy", ["accuracy"])
    model.normalise = data.Normalise.from_images(x)
    model.class_names = tuple(dataset.class_names)
    return model
