"""The data sets of a run: arrays in memory, or folders of pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukit import data
from gpukit.core.blocks import Closing
from gpukit.data import ArrayFeed, Feed, Normalise
from gpukit.data.augment import Augment, ColourNoise
from gpukit.data.decode import read_crops
from gpukit.data.folder import ImageFolder, is_image_folder, scan
from gpukit.data.image_feed import ImageFeed, colours, resized
from gpukit.data.levels import Levels
from gpukit.data.order import held_out
from gpukit.data.quarantine import Quarantine
from gpukit.data.sources import EMBEDDED_NAME, SOURCES
from gpukit.errors import DataError
from gpukit.runs.recipes import WORKERS
from gpukit.runs.settings import RunSettings

_NAMES = (EMBEDDED_NAME, *SOURCES)

BATCH = 256  # images at once where nothing is learnt
CENTRE = Augment("centre", flip=False)
TEN = Augment("ten", flip=False)
# The share of a folder without test images that is held out for testing, the same in every run.
_TEST_SPLIT, _TEST_SEED = 0.1, 0
_HELD_OUT = 1  # stream of the order by which images are kept for validation
_COLOURS = 1024  # images from which the mean and the axes of colours are taken


@dataclass
class DataSets(Closing):
    """Feeds to train, validate and test on, and how their images are normalised; `with` closes all.

    `validation` is None where nothing is kept for it.
    """

    name: str
    class_names: tuple[str, ...]
    normalise: Normalise
    train: Feed
    validation: Feed | None
    test: Feed
    remarks: tuple[str, ...] = ()
    """What there is to say of the folder that they come from, a line each."""
    quarantine: Quarantine = field(default_factory=Quarantine)
    """Pictures that none of the feeds tries again, where the run asks for that."""

    @property
    def classes(self) -> int:
        return len(self.class_names)

    def close(self) -> None:
        for feed in (self.train, self.validation, self.test):
            if feed is not None:
                feed.close()


def load_sets(settings: RunSettings) -> DataSets:
    """What `settings` train on. Raises DataError where there is nothing."""
    return _pictures(settings) if settings.takes_pictures else _arrays(settings)


def test_pictures(
    folder: str,
    size: int,
    *,
    limit: int | None = None,
    ten_crop: bool = False,
    workers: int | None = None,
    bad_images: str | None = None,
    quarantine: Quarantine | None = None,
    levels: Levels | None = None,
) -> ImageFeed:
    """The test images of a folder of pictures: central crops of `size`, or ten of each."""
    return ImageFeed(
        _scanned(folder, limit).val,
        # Ten crops of an image take the room of ten images.
        BATCH // 8 if ten_crop else BATCH,
        size,
        TEN if ten_crop else CENTRE,
        workers=WORKERS if workers is None else workers,
        bad_images=bad_images or "raise",
        quarantine=quarantine,
        levels=levels,
    )


def read_as_tested(
    path: Path, size: int, levels: Levels | None = None
) -> tuple[NDArray[np.uint8], list[str]]:
    """A picture (size, size, 3) as networks see it that were trained on folders of pictures.

    With what was done to it, in words. Raises DataError with the file's name.
    """
    square = resized(size)
    crops, _ = CENTRE.draw(0, 0, 0, square, size)
    pixels = np.empty((1, size, size, 3), np.uint8)
    read_crops(path, square, crops, pixels, levels)
    return pixels[0], [
        f"brought its central square to {square}×{square}, cut {size}×{size} from the middle"
    ]


def _arrays(settings: RunSettings) -> DataSets:
    if settings.data not in _NAMES and is_image_folder(settings.data):
        raise DataError(
            f"{settings.data}: is a folder of pictures, and {settings.model} trains on sets in "
            "memory; train alexnet on it, or give one of `gpukit data list`"
        )
    dataset = data.load(settings.data, limit=settings.limit)
    x, y, x_val, y_val = data.train_validation_split(
        dataset.train_images, dataset.train_labels, settings.validation_split, settings.seed
    )
    if len(x) == 0:
        raise DataError(f"{dataset.name}: no images are left to train on; raise --limit")
    size = settings.batch_size
    validation = ArrayFeed(x_val, y_val, size, shuffle=False) if len(x_val) else None
    return DataSets(
        name=dataset.name,
        class_names=tuple(dataset.class_names),
        normalise=Normalise.from_images(x),
        train=ArrayFeed(x, y, size, seed=settings.seed),
        validation=validation,
        test=ArrayFeed(dataset.test_images, dataset.test_labels, BATCH, shuffle=False),
    )


def _pictures(settings: RunSettings) -> DataSets:
    assert settings.input_size is not None and settings.workers is not None
    assert settings.bad_images is not None
    folder = _scanned(settings.data, settings.limit)
    size = settings.input_size
    images = len(folder.train)
    kept, rows = held_out(images, settings.validation_split, settings.seed, _HELD_OUT)
    train = folder.train.take(rows)
    reading: Any = {
        "bad_images": settings.bad_images,
        "quarantine": Quarantine(),
        "levels": settings.levels,
    }
    mean, covariance = colours(
        ImageFeed(train.limited(_COLOURS), BATCH, size, replace_bad=True, **reading)
    )
    validation = None
    if len(kept):
        validation = ImageFeed(
            folder.train.take(kept),
            BATCH,
            size,
            workers=settings.workers,
            **reading,
        )
    return DataSets(
        name=settings.data,
        class_names=folder.class_names,
        normalise=_normalise(settings.init, mean, covariance),
        train=ImageFeed(
            train,
            settings.batch_size,
            size,
            Augment("random", flip=True, colour=ColourNoise.from_covariance(covariance)),
            seed=settings.seed,
            workers=settings.workers,
            **reading,
        ),
        validation=validation,
        test=test_pictures(
            settings.data,
            size,
            limit=settings.limit,
            ten_crop=settings.how.ten_crop,
            workers=settings.workers,
            **reading,
        ),
        remarks=folder.remarks,
        quarantine=reading["quarantine"],
    )


def _scanned(folder: str, limit: int | None) -> ImageFolder:
    if folder in _NAMES:
        raise DataError(
            f"{folder}: alexnet trains on folders of pictures; write the set as one by "
            f"`gpukit data export {folder} DIR`, and give --data DIR"
        )
    return scan(folder, split=_TEST_SPLIT, seed=_TEST_SEED, limit=limit)


def _normalise(
    init: str | None, mean: NDArray[np.float64], covariance: NDArray[np.float64]
) -> Normalise:
    """Grey levels less their mean, as in the paper, whose kernels begin small; or standardised."""
    if init == "gaussian":
        return Normalise(1.0, tuple(mean), (1.0,) * len(mean))
    deviation = np.sqrt(np.diag(covariance))
    scale = 1 / 255
    return Normalise(scale, tuple(mean * scale), tuple(np.where(deviation, deviation, 255) * scale))
