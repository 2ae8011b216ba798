"""A feed of a folder of pictures under the arguments of Keras's `image_dataset_from_directory`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukit.core import settings, terminal
from gpukit.core.config import flag, number, show, whole
from gpukit.data.feed import Batch, Feed, check_batch_size, check_position
from gpukit.data.folder import SUFFIXES, Items
from gpukit.data.images import on_white, opened
from gpukit.data.levels import Levels, checked
from gpukit.data.order import permutation
from gpukit.data.resizing import INTERPOLATIONS, resize
from gpukit.errors import CheckpointError, DataError, SettingError

_EPOCHS, _FILES = 0, 5  # streams of orders
_CHANNELS = {"grayscale": 1, "rgb": 3, "rgba": 4}
_MODES = {"grayscale": "L", "rgb": "RGB", "rgba": "RGBA"}


def from_directory(
    directory: str | os.PathLike[str],
    labels: Any = "inferred",
    label_mode: str | None = "int",
    class_names: Sequence[str] | None = None,
    color_mode: str = "rgb",
    batch_size: int = 32,
    image_size: tuple[int, int] = (256, 256),
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    interpolation: str = "bilinear",
    follow_links: bool = False,
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    data_format: str | None = None,
    verbose: bool = True,
    *,
    levels: Levels | None = None,
) -> Any:
    """A feed of the pictures under DIRECTORY/CLASS/, float32 (N, H, W, C) from 0 to 255.

    The arguments are those of Keras's `image_dataset_from_directory`. Classes are the folders'
    names in alphabetical order, or in that of `class_names`; pictures in folders within them
    count. `labels` may be a list of class numbers, in the order of the files' paths, or None, which
    suits `predict`. `label_mode` is "int" (N,), "categorical" (N, classes), "binary" (N, 1) or
    None. `subset` is "training", "validation" (the last `validation_split` of the files in an
    order that `seed` draws unless `shuffle` is False) or "both", which returns a pair of feeds.
    Each epoch has another order, by (seed, epoch); `seed` is 0 unless given.

    What is transparent is laid on white unless `color_mode` is "rgba". `levels` are the values of
    black and white of pictures of more than 8 bits (see `ImageFeed`).

    Raises SettingError for an argument that is not supported, DataError for a folder that has no
    such pictures.
    """
    if data_format not in (None, "channels_last"):
        raise SettingError(f"from_directory: data_format={show(data_format)}: channels are last")
    if pad_to_aspect_ratio:
        raise SettingError(
            "from_directory: pad_to_aspect_ratio=True is not supported; use "
            "crop_to_aspect_ratio=True, or pad the files"
        )
    _choice("color_mode", color_mode, tuple(_CHANNELS))
    _choice("interpolation", interpolation, INTERPOLATIONS)
    _choice("label_mode", label_mode, ("int", "categorical", "binary", None))
    _choice("subset", subset, ("training", "validation", "both", None))
    if (validation_split is None) != (subset is None):
        raise SettingError(
            f"from_directory: validation_split={show(validation_split)}, subset={show(subset)}: "
            "give both, or neither"
        )
    if labels is None:
        label_mode = None
    folder = settings.expanded(os.fspath(directory))
    items = _found(folder, labels, class_names, flag("follow_links", follow_links))
    classes = len(items.class_names)
    if label_mode == "binary" and classes != 2:
        raise SettingError(f"from_directory: label_mode='binary' is for 2 classes, not {classes}")
    if verbose:
        of = "" if labels is None else f" belonging to {classes} classes"
        terminal.say(f"Found {len(items)} files{of}.")
    seed = 0 if seed is None else whole("seed", seed, low=0)
    if flag("shuffle", shuffle):
        items = items.take(permutation(len(items), seed, _FILES))
    how: dict[str, Any] = {
        "batch_size": batch_size, "size": image_size, "label_mode": label_mode, "seed": seed,
        "color_mode": color_mode, "interpolation": interpolation, "levels": checked(levels),
        "crop": flag("crop_to_aspect_ratio", crop_to_aspect_ratio),
    }  # fmt: skip
    if subset is None:
        return DirectoryFeed(items, shuffle=shuffle, **how)
    held = int(number("validation_split", validation_split, above=0, below=1) * len(items))
    if held in (0, len(items)):
        raise DataError(
            f"{folder}: validation_split={validation_split} of {len(items)} files leaves a subset "
            "empty; use more files"
        )
    first, last = np.arange(len(items) - held), np.arange(len(items) - held, len(items))
    if verbose:
        for name, part in (("training", first), ("validation", last)):
            if subset in (name, "both"):
                terminal.say(f"Using {len(part)} files for {name}.")
    train = DirectoryFeed(items.take(first), shuffle=shuffle, **how)
    held_out = DirectoryFeed(items.take(last), shuffle=shuffle and subset != "both", **how)
    return {"training": train, "validation": held_out, "both": (train, held_out)}[subset]


class DirectoryFeed(Feed):
    """Pictures of `items`, each resized as a whole: what `from_directory` makes."""

    def __init__(
        self,
        items: Items,
        *,
        batch_size: int,
        size: tuple[int, int],
        label_mode: str | None,
        color_mode: str,
        shuffle: bool,
        seed: int,
        interpolation: str,
        crop: bool,
        levels: Levels | None,
    ) -> None:
        check_batch_size(batch_size)
        if not isinstance(size, (tuple, list)) or len(size) != 2:
            raise SettingError(f"image_size={show(size)}: use (height, width)")
        self._size = whole("image_size", size[0]), whole("image_size", size[1])
        self._items, self._shuffle, self._seed = items, shuffle, seed
        self._color_mode, self._interpolation = color_mode, interpolation
        self._crop, self._levels, self._label_mode = crop, levels, label_mode
        self.count, self.batch_size = len(items), batch_size
        self.image_shape = (*self._size, _CHANNELS[color_mode])
        self.dtype = np.dtype(np.float32)
        self.class_names, self.labelled = items.class_names, label_mode is not None
        self.targets = _targets(items, label_mode)

    @property
    def file_paths(self) -> list[str]:
        """The files, in stored order."""
        return [str(self._items.path(index)) for index in range(self.count)]

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        check_position(number, start)
        order = np.arange(self.count)
        if self._shuffle:
            order = permutation(self.count, self._seed, _EPOCHS, number)
        return self._cut(order, start)

    def _cut(self, order: NDArray[np.intp], start: int) -> Iterator[Batch]:
        assert self.targets is not None
        for first in range(start * self.batch_size, self.count, self.batch_size):
            indices = order[first : first + self.batch_size]
            x = np.empty((len(indices), *self.image_shape), np.float32)
            for out, index in zip(x, indices.tolist(), strict=True):
                out[:] = self._read(self._items.path(index))
            yield Batch(x, self.targets[indices])

    def _read(self, path: Path) -> NDArray[np.float32]:
        picture = opened(path, [], levels=self._levels)
        if self._color_mode != "rgba":
            picture = on_white(picture, [])
        pixels = np.asarray(picture.convert(_MODES[self._color_mode]))
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        return resize(pixels, self._size, self._interpolation, crop=self._crop)

    def config(self) -> dict[str, Any]:
        return {
            "files": self._items.digest(),
            "batch_size": self.batch_size,
            "image_shape": list(self.image_shape),
            "seed": self._seed,
            "shuffle": self._shuffle,
            "interpolation": self._interpolation,
            "crop_to_aspect_ratio": self._crop,
            "label_mode": self._label_mode,
        }

    def take_up(self, config: dict[str, Any]) -> None:
        for name, value in self.config().items():
            if config.get(name) != value:
                raise CheckpointError(
                    f"the pictures are not those that training began with: {name} is {value} "
                    f"instead of {config.get(name)!r}; bring them back, or begin anew"
                )


def _choice(name: str, value: Any, known: Sequence[Any]) -> None:
    if value not in known:
        choices = ", ".join(repr(choice) for choice in known)
        raise SettingError(f"from_directory: {name}={show(value)}: use {choices}")


def _targets(items: Items, label_mode: str | None) -> NDArray[Any]:
    labels = items.labels
    if label_mode == "categorical":
        return np.eye(len(items.class_names), dtype=np.float32)[labels]
    return labels.astype(np.float32)[:, np.newaxis] if label_mode == "binary" else labels


def _found(folder: Path, labels: Any, class_names: Any, follow: bool) -> Items:
    """The pictures of `folder` with their labels, by class, then by path."""
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; give one of pictures")
    inferred = isinstance(labels, str)
    if inferred and labels != "inferred":
        raise SettingError(
            f"from_directory: labels={show(labels)}: use 'inferred', a list of class numbers or "
            "None"
        )
    if not inferred:
        if class_names is not None:
            raise SettingError("from_directory: class_names are for labels='inferred'")
        names = _pictures(folder, follow)
        numbers = np.zeros(len(names), np.int64) if labels is None else _numbers(labels, names)
        known = tuple(str(i) for i in range(int(numbers.max(initial=-1)) + 1))
        return _some(folder, Items(folder, tuple(names), numbers, () if labels is None else known))
    with os.scandir(folder) as entries:
        inner = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    if class_names is not None:
        if set(class_names) != set(inner):
            raise SettingError(
                f"from_directory: class_names={show(list(class_names))}, and {folder} holds the "
                f"folders {show(inner)}; they must be the same"
            )
        inner = list(class_names)
    found = {name: _pictures(folder / name, follow) for name in inner}
    empty = [name for name, pictures in found.items() if not pictures]
    if empty and len(empty) < len(found):
        terminal.say(f"{folder}: no pictures in {', '.join(empty)}, which stay classes")
    counts = [len(pictures) for pictures in found.values()]
    files = tuple(f"{name}/{picture}" for name, pictures in found.items() for picture in pictures)
    numbers = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    return _some(folder, Items(folder, files, numbers, tuple(inner)))


def _some(folder: Path, items: Items) -> Items:
    if not len(items):
        raise DataError(f"{folder}: holds no pictures ({', '.join(sorted(SUFFIXES))})")
    return items


def _numbers(labels: Any, names: list[str]) -> NDArray[np.int64]:
    try:
        numbers = np.asarray(labels)
    except ValueError:
        numbers = np.asarray(None)
    if numbers.shape != (len(names),) or numbers.dtype.kind not in "iu" or (numbers < 0).any():
        raise DataError(
            f"from_directory: labels={show(labels)}: give a class number from 0 for each of the "
            f"{len(names)} files, in the order of their paths"
        )
    return numbers.astype(np.int64)


def _pictures(folder: Path, follow: bool) -> list[str]:
    """Paths below `folder` of all pictures in it and in its folders, in order."""
    found = []
    for place, inner, names in os.walk(folder, followlinks=follow):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        here = Path(place).relative_to(folder)
        found += [
            (here / name).as_posix()
            for name in names
            if PurePath(name).suffix.lower() in SUFFIXES and not name.startswith(".")
        ]
    return sorted(found)
