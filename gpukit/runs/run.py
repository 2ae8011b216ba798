"""Trains from settings into a folder, and resumes a run where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from gpukit import models, schedules
from gpukit.callbacks import Callback, ReduceLROnPlateau
from gpukit.core import settings as process
from gpukit.data import ImageFeed
from gpukit.errors import CheckpointError, SettingError
from gpukit.inspect import pictures
from gpukit.inspect.filters import colour_report
from gpukit.model.saving import Base, load_into
from gpukit.runs.datasets import DataSets, load_sets
from gpukit.runs.folder import (
    BEST,
    CURVES,
    FILTERS,
    HISTORY,
    LAST,
    QUARANTINE,
    SETTINGS,
    STARTED,
    RunFolder,
    exists,
    held,
    new_folder,
    taken,
)
from gpukit.runs.kernels import in_use
from gpukit.runs.recipes import OPTIMIZERS
from gpukit.runs.saver import RunSaver
from gpukit.runs.settings import RunSettings
from gpukit.training import checkpoint, loop
from gpukit.training.state import TrainingState

SMALLEST_RATE = 1e-3  # of the first one: the paper's fell by ten three times


@dataclass(frozen=True)
class RunResult:
    """What a finished run came to; `seconds` and `images_per_second` are of training alone.

    The test accuracy is of the mean output over `crops` of each image. `colour` says of every
    column that sees colour images how much its filters care for it.
    """

    test_accuracy: float
    seconds: float
    images_per_second: float
    epochs: int
    device: str
    out: str
    crops: int = 1
    colour: tuple[str, ...] = ()


def train(
    settings: RunSettings,
    out: Path | None = None,
    *,
    resume: bool = False,
    replay: int = 0,
    verbose: Any = "auto",
    tell: Callable[[str], None] = lambda text: None,
) -> RunResult:
    """Train by `settings` into the folder `out`, by default the next free runs/MODEL-N; with
    `resume`, go on from its last checkpoint, or the newest that is good.

    Every `replay` steps one is computed twice (`Model.fit`). `tell` gets a line of news now and
    then. The test set is read once, at the end, by the weights of the best epoch. Raises
    GpukitErrors before anything is written where the settings cannot work, and Interrupted, after
    saving, on SIGINT, SIGTERM and SIGHUP.
    """
    if out is not None and not resume:
        _refuse_taken(out)
    process.threads()  # refused here, if at all
    with in_use(settings, tell), load_sets(settings) as sets:
        for remark in sets.remarks:
            tell(remark)
        if isinstance(sets.test, ImageFeed):
            sets.test.check(tell)  # it is read after the training, when it is late to say so
        model = _make_model(settings, sets)
        with held(out or new_folder(settings.model)) as folder:
            if not resume:
                _refuse_taken(folder.path)
            run = _Run(settings, sets, model, folder, tell)
            saver = RunSaver(folder, settings.keep)
            with saver.watching_signals():
                if resume:
                    run.take_up()
                _write_settings(settings, folder, resume)
                if settings.bad_images == "quarantine":
                    listed = folder.path / QUARANTINE
                    sets.quarantine.keep(listed, partial(folder.write, QUARANTINE))
                history = run.train(saver, replay, verbose)
                folder.check()
                load_into(model, folder.path / BEST)
                result = run.result(history)
                run.draw(history)
    return result


@dataclass(frozen=True)
class _Run:
    """A run under way: what it trains, on what, in which folder, and who gets its news."""

    settings: RunSettings
    sets: DataSets
    model: Base
    folder: RunFolder
    tell: Callable[[str], None]

    def train(self, saver: RunSaver, replay: int, verbose: Any) -> list[dict[str, float]]:
        """Train from where the model stands to the last epoch; the history, also written."""
        settings, sets, state = self.settings, self.sets, self.model.training_state
        kept = 0 if sets.validation is None else sets.validation.count
        self.tell(
            f"{settings.model} on {sets.name}: {sets.train.count:,} images to train, {kept:,} "
            f"to validate, {sets.test.count:,} to test; {self.places}, {settings.dtype}"
        )
        if state.epoch or state.batch:
            done = f"epoch {state.epoch}, step {state.batch}"
            self.tell(f"going on after {done} of {settings.epochs}")
        self.model.fit(
            sets.train,
            epochs=settings.epochs,
            verbose=verbose,
            callbacks=[*_callbacks(settings, verbose), saver],
            validation_data=sets.validation,
            seed=settings.seed,
            state=state,
            accumulate=settings.accumulate or 1,
            replay=replay,
        )
        saver.write_history(self.model)
        return state.history

    @property
    def places(self) -> str:
        """The devices of the model."""
        return ", ".join(map(str, self.model.devices))

    def draw(self, history: list[dict[str, float]]) -> None:
        """Write the pictures; that they cannot be written takes no result away."""
        title = f"{self.model.name} on {Path(self.sets.name).name}"
        try:
            self.folder.write(CURVES, pictures.curves(history, title))
            self.folder.write(FILTERS, pictures.filters(self.model))
        except CheckpointError as error:
            self.tell(str(error))

    def result(self, history: list[dict[str, float]]) -> RunResult:
        """What the run came to, the model being that of the best epoch."""
        epochs, test = len(history), self.sets.test
        best = pictures.best_epoch(history)
        self.tell(f"best epoch {best + 1} of {epochs}; reading the test set once")
        accuracy = loop.evaluate(self.model, test)["accuracy"]
        for remark in test.remarks():
            self.tell(remark)
        seconds = sum(logs.get("seconds", 0.0) for logs in history)
        trained = self.sets.train.count * epochs
        return RunResult(
            test_accuracy=accuracy,
            seconds=round(seconds, 3),
            images_per_second=round(trained / seconds, 1) if seconds else 0.0,
            epochs=epochs,
            device=self.places,
            out=str(self.folder.path),
            crops=test.views,
            colour=tuple(colour_report(self.model)),
        )

    def take_up(self) -> None:
        """Bring the model to where the run was last saved; a run that never was begins anew."""
        model, out = self.model, self.folder.path
        found = self.folder.checkpoints()
        if not found:
            if (out / HISTORY).exists():
                raise CheckpointError(f"{out} has lost its {LAST}; start a new run")
            return
        images = model.normalise
        self._mend_last(found)
        load_into(model, out / LAST)
        if model.normalise != images:
            raise CheckpointError(
                f"{out}: the images of {self.sets.name} are not those that the run began with; "
                "bring them back, or start a new run"
            )
        if model.training_state.history:
            if not (out / BEST).exists():
                raise CheckpointError(f"{out} has lost its {BEST}; start a new run")
            checkpoint.read(out / BEST)  # damage is said now, not after the training

    def _mend_last(self, found: list[Path]) -> None:
        """Where LAST is gone or damaged, give its name to the newest good checkpoint of `found`."""
        damage, good = [], []
        for path in found:
            try:
                _, state = checkpoint.read(path)
                position = TrainingState.from_json(state.get("training"))
            except CheckpointError as error:
                damage.append(str(error))
                continue
            if path.name == LAST:
                return
            good.append((position.epoch, position.batch, path))
        if not good:
            raise CheckpointError(f"{damage[0]}; no other checkpoint of the run is good")
        *place, path = max(good)
        for text in damage or [f"{self.folder.path} has lost its {LAST}"]:
            self.tell(text)
        self.tell(
            f"going on from {path.name}, epoch {place[0]}, step {place[1]}: the newest that is good"
        )
        self.folder.write(LAST, path.read_bytes())


def load_best(path: Path, device: str | None = None, devices: Sequence[str] | None = None) -> Base:
    """The model of the best epoch of the run in the folder `path`, or in a checkpoint file.

    It is all on `device`, or spread over `devices`, one for each column.
    """
    if path.is_dir():
        if not (path / BEST).exists():
            raise CheckpointError(f"{path} holds no trained network: there is no {BEST} in it")
        path = path / BEST
    return models.load_model(path, device, devices)


def _refuse_taken(out: Path) -> None:
    """Nothing of another run, or of the user's, is overwritten."""
    if exists(out / SETTINGS):
        raise SettingError(
            f"{out} holds a run already; go on with it by --resume {out}, or choose another --out"
        )
    for name in taken(out):
        raise SettingError(f"{out} holds a file {name} already; choose another --out")


def _write_settings(settings: RunSettings, folder: RunFolder, resume: bool) -> None:
    """Write the settings of a new run; of one that goes on, when it was started again."""
    values = json.loads(settings.to_json())
    if resume:
        values = json.loads((folder.path / SETTINGS).read_text(encoding="utf-8"))
    values[STARTED] = datetime.now(UTC).isoformat(timespec="microseconds")
    folder.write(SETTINGS, (json.dumps(values, indent=2) + "\n").encode())


def _make_model(settings: RunSettings, sets: DataSets) -> Base:
    make = models.get(settings.model)
    model = make(
        sets.train.image_shape,
        sets.classes,
        device=settings.device,
        dtype=settings.dtype,
        seed=settings.seed,
        **settings.options(),
    )
    rate: Any = settings.lr
    if settings.schedule == "cosine":
        rate = schedules.CosineDecay(settings.lr, sets.train.steps * settings.epochs)
    # As in the papers of the recipes: weight decay goes into the gradient, and so into momentum.
    optimizer = OPTIMIZERS[settings.optimizer].make(
        rate, weight_decay=settings.weight_decay, decoupled=False
    )
    model.compile(optimizer, "sparse_categorical_crossentropy", ["accuracy"])
    model.normalise = sets.normalise
    model.class_names = sets.class_names
    return model


def _callbacks(settings: RunSettings, verbose: Any) -> list[Callback]:
    """What changes the course of training: the fall of the rate where validation stands still."""
    if settings.schedule != "plateau":
        return []
    return [
        ReduceLROnPlateau(
            "val_accuracy",
            factor=0.1,
            patience=settings.how.patience,
            min_delta=0.0,
            min_lr=settings.lr * SMALLEST_RATE,
            verbose=1 if verbose else 0,
        )
    ]
