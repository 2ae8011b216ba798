"""A run: training by settings, kept in a folder, and resumed to the bit.

The folder holds settings.json, history.jsonl (an object an epoch), best.safetensors and
last.safetensors, curves.png and filters.png.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Self

import numpy as np

from gpukit import data, models, optimizers, schedules
from gpukit.callbacks import Callback
from gpukit.config import number, whole
from gpukit.device import get_device
from gpukit.errors import CheckpointError, DataError, SettingError
from gpukit.inspect import pictures
from gpukit.models.base import Base
from gpukit.models.saving import load_into, save
from gpukit.training import loop
from gpukit.training.checkpoint import write_atomically

SETTINGS, HISTORY = "settings.json", "history.jsonl"
BEST, LAST = "best.safetensors", "last.safetensors"
CURVES, FILTERS = "curves.png", "filters.png"


@dataclass(frozen=True)
class Recipe:
    """An optimiser for runs: how it is made, and what suits LeNet-5 where nothing else is asked."""

    make: Callable[..., optimizers.Optimizer]
    lr: float
    weight_decay: float


RECIPES = {
    "sgd": Recipe(partial(optimizers.SGD, momentum=0.9), 0.03, 2e-3),
    "adam": Recipe(optimizers.Adam, 0.002, 0.0),
    "rmsprop": Recipe(optimizers.RMSprop, 0.001, 0.0),
    "adagrad": Recipe(optimizers.Adagrad, 0.02, 0.0),
}


@dataclass(frozen=True)
class RunSettings:
    """What fixes a run: the same settings give the same bits on one device.

    A learning rate or weight decay of None becomes the one of the optimiser's recipe.
    """

    model: str
    data: str = "fashion-mnist-small"
    device: str = "cpu"
    dtype: str = "float32"
    epochs: int = 20
    batch_size: int = 64
    lr: float | None = None
    optimizer: str = "sgd"
    weight_decay: float | None = None
    seed: int = 0
    limit: int | None = None
    validation_split: float = 0.1

    def __post_init__(self) -> None:
        models.get(self.model)
        recipe = RECIPES.get(self.optimizer)
        if recipe is None:
            raise SettingError(f"optimizer {self.optimizer!r}: use {', '.join(RECIPES)}")
        for name, value in (("lr", recipe.lr), ("weight_decay", recipe.weight_decay)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        get_device(self.device)
        if self.dtype not in ("float32", "float64"):
            raise SettingError(f"dtype {self.dtype!r}: use float32 or float64")
        whole("epochs", self.epochs)
        whole("batch-size", self.batch_size)
        whole("seed", self.seed, low=0)
        number("lr", self.lr, above=0.0)
        number("weight-decay", self.weight_decay, low=0.0)
        number("validation-split", self.validation_split, low=0.0, below=1.0)
        if self.limit is not None:
            whole("limit", self.limit)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The settings of the run in `folder`. Raises CheckpointError where they are unreadable."""
        path = folder / SETTINGS
        try:
            values = json.loads(path.read_text())
            known = {f.name for f in fields(cls)}
            return cls(**{k: v for k, v in values.items() if k in known})
        except FileNotFoundError:
            raise CheckpointError(f"{folder} holds no run: there is no {SETTINGS} in it") from None
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path} is not readable ({error})") from None


@dataclass(frozen=True)
class RunResult:
    """What a finished run came to; `seconds` and `images_per_second` are of training alone."""

    test_accuracy: float
    seconds: float
    images_per_second: float
    epochs: int
    device: str
    out: str


class Interrupted(BaseException):
    """A signal asked the run to stop; its state is saved. `signum` is the signal."""

    def __init__(self, signum: int, folder: Path) -> None:
        super().__init__(f"stopped by signal {signum}, saved in {folder}")
        self.signum = signum
        self.folder = folder


def new_folder(model: str, root: Path = Path("runs")) -> Path:
    """The next free folder runs/MODEL-1, runs/MODEL-2, …"""
    number = 1
    while (root / f"{model}-{number}").exists():
        number += 1
    return root / f"{model}-{number}"


def latest_folder(model: str, root: Path = Path("runs")) -> Path | None:
    """The newest runs/MODEL-N that has a checkpoint."""
    found = [p.parent for p in root.glob(f"{model}-*/{LAST}")]
    return max(found, key=lambda p: (p / LAST).stat().st_mtime, default=None)


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
    has_run = any((out / name).exists() for name in (SETTINGS, BEST, LAST, HISTORY))
    if has_run and not resume:
        raise SettingError(
            f"{out} holds a run already; go on with it by --resume {out}, or choose another --out"
        )
    dataset = data.load(settings.data, limit=settings.limit)
    x, y, x_val, y_val = data.train_validation_split(
        dataset.train_images, dataset.train_labels, settings.validation_split, settings.seed
    )
    model = _make_model(settings, dataset, x)
    if resume:
        load_into(model, out / LAST)
    _make_folder(out)
    write_atomically(out / SETTINGS, settings.to_json().encode())
    keeper = _Keeper(out)
    validation = (x_val, y_val) if len(x_val) else None
    tell(
        f"{settings.model} on {dataset.name}: {len(x):,} images to train, {len(x_val):,} to "
        f"validate, {len(dataset.test_images):,} to test; {model.device}, {settings.dtype}"
    )
    with keeper.watching_signals():
        loop.fit(
            model,
            x,
            y,
            batch_size=settings.batch_size,
            epochs=settings.epochs,
            verbose=verbose,
            callbacks=[keeper],
            validation_data=validation,
            seed=settings.seed,
            state=model.training_state,
        )
    history = model.training_state.history
    keeper.write_history(model)
    pictures.save_curves(out / CURVES, history, f"{settings.model} on {dataset.name}")
    load_into(model, out / BEST)
    pictures.save_filters(out / FILTERS, model)
    best = pictures.best_epoch(history)
    tell(f"best epoch {best + 1} of {len(history)}; reading the test set once")
    accuracy = loop.evaluate(model, dataset.test_images, dataset.test_labels)["accuracy"]
    seconds = sum(logs["seconds"] for logs in history)
    return RunResult(
        test_accuracy=accuracy,
        seconds=round(seconds, 3),
        images_per_second=round(len(x) * len(history) / seconds, 1) if seconds else 0.0,
        epochs=len(history),
        device=str(model.device),
        out=str(out),
    )


def load_best(folder: Path, device: str | None = None) -> Base:
    """The model of the best epoch of the run in `folder`, or in a checkpoint file."""
    path = Path(folder)
    if path.is_dir():
        if not (path / BEST).exists():
            raise CheckpointError(f"{path} holds no run: there is no {BEST} in it")
        path = path / BEST
    return models.load_model(path, device)


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


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(
            f"the folder {out} cannot be made ({error.strerror}); choose another --out"
        ) from None
    for leftover in out.glob(".*.part"):  # of a process that was killed while it wrote
        leftover.unlink(missing_ok=True)


class _Keeper(Callback):
    """Keeps the run's files up to date, and stops it cleanly when a signal asks for that."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._signal: int | None = None

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        model = self.model
        history = model.training_state.history
        if pictures.best_epoch(history) == len(history) - 1:
            save(model, self._folder / BEST)
        save(model, self._folder / LAST)
        self.write_history(model)
        self._stop_if_asked()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if self._signal is not None:
            save(self.model, self._folder / LAST)
            self._stop_if_asked()

    def write_history(self, model: Base) -> None:
        """Write the figures of all epochs, one object a line."""
        lines = [json.dumps(logs) for logs in model.training_state.history]
        write_atomically(self._folder / HISTORY, "".join(f"{x}\n" for x in lines).encode())

    def watching_signals(self) -> _SignalWatch:
        """Within the block SIGINT and SIGTERM end the run after the step under way."""
        return _SignalWatch(self)

    def ask(self, signum: int, frame: FrameType | None) -> None:
        """Signal handler: the loop stops at its next chance; a second signal stops at once."""
        if self._signal is not None:
            raise KeyboardInterrupt
        self._signal = signum

    def _stop_if_asked(self) -> None:
        if self._signal is not None:
            raise Interrupted(self._signal, self._folder)


class _SignalWatch:
    def __init__(self, keeper: _Keeper) -> None:
        self._keeper = keeper
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._before[signum] = signal.signal(signum, self._keeper.ask)

    def __exit__(self, *exception: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
