"""What a run trains, validates and tests on: a set in memory, or folders of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Self

from gpukit import data
from gpukit.data import ArrayFeed, Feed, Normalise
from gpukit.errors import DataError
from gpukit.runs.settings import RunSettings

BATCH = 256  # images at once where nothing is learnt


@dataclass
class Material:
    """Feeds of a run, and how their images are normalised. A context manager, which closes them.

    `validation` is None where nothing is kept for it.
    """

    name: str
    class_names: tuple[str, ...]
    normalise: Normalise
    train: Feed
    validation: Feed | None
    test: Feed

    @property
    def classes(self) -> int:
        return len(self.class_names)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for feed in (self.train, self.validation, self.test):
            if feed is not None:
                feed.close()


def gather(settings: RunSettings) -> Material:
    """What `settings` train on. Raises DataError where there is nothing."""
    return _arrays(settings)


def _arrays(settings: RunSettings) -> Material:
    dataset = data.load(settings.data, limit=settings.limit)
    x, y, x_val, y_val = data.train_validation_split(
        dataset.train_images, dataset.train_labels, settings.validation_split, settings.seed
    )
    if len(x) == 0:
        raise DataError(f"{dataset.name}: no images are left to train on; raise --limit")
    size = settings.batch_size
    validation = ArrayFeed(x_val, y_val, size, shuffle=False) if len(x_val) else None
    return Material(
        name=dataset.name,
        class_names=tuple(dataset.class_names),
        normalise=Normalise.from_images(x),
        train=ArrayFeed(x, y, size, seed=settings.seed),
        validation=validation,
        test=ArrayFeed(dataset.test_images, dataset.test_labels, BATCH, shuffle=False),
    )
