"""Evaluates trained networks: each alone, and several as an ensemble that averages outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukit import data
from gpukit.data import ArrayFeed, Feed
from gpukit.data.quarantine import Quarantine
from gpukit.errors import CheckpointError, DataError, SettingError
from gpukit.model.saving import Base
from gpukit.runs import recipes
from gpukit.runs.datasets import BATCH, test_pictures
from gpukit.runs.folder import QUARANTINE, is_run
from gpukit.runs.kernels import in_use_by
from gpukit.runs.run import load_best
from gpukit.runs.settings import RunSettings
from gpukit.training import loop


@dataclass(frozen=True)
class Figures:
    """Accuracy and loss on `images` test images of the set `data`, of the mean over `crops`."""

    name: str
    model: str
    accuracy: float
    loss: float
    images: int
    data: str
    crops: int
    device: str


def evaluate(
    runs: Sequence[Path],
    *,
    name: str | None = None,
    device: str | None = None,
    devices: Sequence[str] | None = None,
    limit: int | None = None,
    kernels: Sequence[str] = (),
    tell: Callable[[str], None] = lambda text: None,
    **pictures: Any,
) -> list[Figures]:
    """Figures of each run or checkpoint; of more than one, those of their ensemble follow.

    `name` is the data set, by default that of the runs. An ensemble's output is the mean of the
    probabilities that its networks give. `kernels` are the files of plug-ins that the runs were
    trained with and that lie elsewhere now; `tell` gets a line about what computes without them.
    `pictures` are options of `test_pictures`, by default those that a run was trained with;
    SettingError where the set is none of pictures.
    """
    name = name or _data_of(runs)
    figures: list[Figures] = []
    total: NDArray[np.float64] | None = None
    targets: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    for run in runs:
        model = load_best(run, device, devices)
        if figures and model.class_names != classes:
            raise SettingError(f"{run} knows other classes than {runs[0]}; give runs of one set")
        classes = model.class_names
        given = {option: value for option, value in pictures.items() if value is not None}
        title, feed = _test_feed(model, name, limit, {**kept(run), **given})
        with feed, in_use_by(run, kernels, tell):
            if len(runs) == 1:
                # The file may have been saved without a loss, or with other metrics.
                model.compile("sgd", "sparse_categorical_crossentropy", ["accuracy"])
                found = loop.evaluate(model, feed)
                accuracy, loss = found["accuracy"], found["loss"]
            else:
                outputs = loop.predict(model, feed).astype(np.float64)
                targets = _targets(feed)
                total = outputs if total is None else total + outputs
                accuracy, loss = _accuracy_and_loss(outputs, targets)
        for remark in feed.remarks():
            tell(remark)
        images = feed.count - len(feed.left_out)
        place = ", ".join(map(str, model.devices))
        figures.append(
            Figures(str(run), model.name, accuracy, loss, images, title, feed.views, place)
        )
    if total is not None and targets is not None:
        accuracy, loss = _accuracy_and_loss(total / len(runs), targets)
        first = figures[0]
        every = f"ensemble of {len(runs)}"
        figures.append(replace(first, name=every, accuracy=accuracy, loss=loss))
    return figures


def kept(run: Path) -> dict[str, Any]:
    """How a run reads pictures, for `test_pictures`; nothing where there is a checkpoint alone.

    Pictures that the run has in quarantine are not tried again; others that cannot be read are
    left out, and the run's list is not changed.
    """
    folder = run if run.is_dir() else run.parent
    if not is_run(folder):
        return {}
    settings = RunSettings.read(folder, device="cpu")  # that device need not be here
    found: dict[str, Any] = {"bad_images": settings.bad_images, "levels": settings.levels}
    if settings.bad_images == "quarantine":
        found["quarantine"] = Quarantine()
        found["quarantine"].keep(folder / QUARANTINE, lambda data: None)
    return {option: value for option, value in found.items() if value is not None}


def _data_of(runs: Sequence[Path]) -> str:
    """The one data set that all runs were trained on."""
    found = {}
    for run in runs:
        folder = run if run.is_dir() else run.parent
        if not is_run(folder):
            load_best(run, "cpu")  # a file that is missing or damaged is the first thing to say
            raise CheckpointError(f"{run} does not say on what it was trained; name it with --data")
        found[RunSettings.read(folder, device="cpu").data] = run  # that device need not be here
    if len(found) > 1:
        raise SettingError(f"the runs were trained on {' and on '.join(found)}; choose with --data")
    return next(iter(found))


def _test_feed(
    model: Base, name: str, limit: int | None, pictures: dict[str, Any]
) -> tuple[str, Feed]:
    """The test images for `model` of the set `name`, with its title."""
    if recipes.takes_pictures(model.name):
        size = (model.input_shape or (0, 0))[1] or 0
        feed = test_pictures(name, size, limit=limit, **pictures)
        if model.class_names and feed.class_names != model.class_names:
            raise DataError(
                f"{name}: its classes are {_some(feed.class_names)}, those of {model.name} "
                f"{_some(model.class_names)}; give a folder with the same ones"
            )
        return name, feed
    for option, given in pictures.items():
        if given is not None and given is not False:
            option = option.replace("_", "-")
            raise SettingError(f"--{option} does not apply to {model.name}; leave it out")
    dataset = data.load(name, limit=limit)
    images, labels = dataset.test_images, dataset.test_labels
    return dataset.name, ArrayFeed(images, labels, BATCH, shuffle=False)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" … ({len(names)})" if len(names) > 3 else "")


def _targets(feed: Feed) -> NDArray[np.int64]:
    if feed.targets is not None:
        return np.delete(feed.targets, feed.left_out)
    return np.concatenate([batch.y for batch in feed.epoch()])


def _accuracy_and_loss(
    outputs: NDArray[np.float64], targets: NDArray[np.int64]
) -> tuple[float, float]:
    """Of probabilities (N, classes)."""
    right = outputs[np.arange(len(targets)), targets]
    loss = -np.log(np.maximum(right, np.finfo(np.float64).tiny)).mean()
    return float((outputs.argmax(1) == targets).mean()), float(loss)
