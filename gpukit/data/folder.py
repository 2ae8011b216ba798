"""Finds the pictures of a folder that has one folder a class."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from gpukit.core import settings
from gpukit.data.order import held_out, permutation
from gpukit.errors import DataError, SettingError

TRAIN, VAL = "train", "val"
# Names, in any case, of the folder to validate or test on; the first one that is there is used.
_HELD = (VAL, "valid", "validation", "test")
# Of the formats that `images` decodes.
SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
SUFFIXES |= {".ppm", ".pgm", ".pbm"}

_SPLIT, _LIMIT = 1, 4  # streams of orders


@dataclass(frozen=True, eq=False)
class Items:
    """Pictures in files: `names` under `root` in a fixed order, labels int64 (N,)."""

    root: Path
    names: tuple[str, ...]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        """The file of picture `index`."""
        return self.root / self.names[index]

    def take(self, indices: Sequence[int] | NDArray[np.intp]) -> Items:
        """The pictures `indices`, in that order."""
        chosen = tuple(self.names[i] for i in indices)
        return Items(self.root, chosen, self.labels[np.asarray(indices, np.intp)], self.class_names)

    def limited(self, limit: int | None) -> Items:
        """At most `limit` pictures, drawn evenly over the whole; always the same ones."""
        if limit is None or limit >= len(self):
            return self
        return self.take(np.sort(permutation(len(self), 0, _LIMIT)[:limit]))

    def digest(self) -> str:
        """SHA-256 of names and labels: tells another set of files, not other pictures in them."""
        digest = hashlib.sha256("\0".join(self.class_names).encode(errors="surrogateescape"))
        for name in self.names:
            digest.update(b"\0" + os.fsencode(name))
        digest.update(self.labels.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class ImageFolder:
    """The pictures to train on and those to validate on, of the same classes."""

    train: Items
    val: Items
    remarks: tuple[str, ...] = ()
    """What is used for what where names leave it open, and what is not used: a line each."""

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.train.class_names


def is_image_folder(folder: str | Path) -> bool:
    """Whether `folder` looks like one for `scan`: folders of pictures, one or two levels down."""
    folder = settings.expanded(folder)
    if not folder.is_dir():
        return False
    if _sets(folder)[0] is not None or (folder / VAL).is_dir():
        return True
    return any(_pictures(inner)[0] for inner in _folders(folder))


def scan(
    folder: str | Path, *, split: float = 0.1, seed: int = 0, limit: int | None = None
) -> ImageFolder:
    """The pictures of DIR/train/CLASS/* and DIR/val/CLASS/*, or of DIR/CLASS/*.

    `val` may be called valid, validation or test (the first of them that is there is used), in any
    case. The result's `remarks` say what was used for what, and which pictures were not.

    Classes are the folders' names in alphabetical order, files come in that order too. Hidden
    files and files of other kinds are left out; links are followed. Of one level, and where there
    is no DIR/val, the fraction `split` of each class (at least one picture) is for validation, as
    `seed` draws it. `limit` keeps at most that many pictures of each part.

    Raises `DataError`, one line, where there are no pictures, one class only, a class without
    pictures, parts of different classes, or a folder that cannot be read.
    """
    folder = settings.expanded(folder)
    if not 0 < split < 1:
        raise SettingError(f"validation split {split}: use a fraction above 0 and below 1")
    if limit is not None and limit < 1:
        raise SettingError(f"limit={limit}: keep at least 1 image of each part")
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "there is no such folder"
        raise DataError(f"{folder}: {what}; give a folder with one folder of pictures a class")
    remarks: list[str] = []
    first, held = _sets(folder)
    if first is not None:
        train = _part(first, remarks)
        if held:
            val = _part(held[0], remarks)
            _same_classes(folder, train, val)
            if (first.name, held[0].name) != (TRAIN, VAL) or held[1:]:
                unused = "".join(f", not on {other.name}" for other in held[1:])
                remarks.append(
                    f"{folder}: trains on {first.name}, validates and tests on "
                    f"{held[0].name}{unused}"
                )
        else:
            train, val = _split(train, split, seed)
    elif (folder / VAL).is_dir():
        raise DataError(f"{folder}: has {VAL} but no {TRAIN}; put {TRAIN}/CLASS/*.jpg beside it")
    else:
        train, val = _split(_part(folder, remarks), split, seed)
    return ImageFolder(train.limited(limit), val.limited(limit), tuple(remarks))


def _sets(folder: Path) -> tuple[Path | None, list[Path]]:
    """The folder to train on, and those to validate on, by rank; a class of trains is none."""
    named: dict[str, Path] = {}
    for inner in _folders(folder):
        named.setdefault(inner.name.lower(), inner)
    train, held = named.get(TRAIN), [named[name] for name in _HELD if name in named]
    if train is not None and not held and len(named) > 1 and _pictures(train)[0]:
        return None, []
    return train, held


def _part(folder: Path, remarks: list[str]) -> Items:
    """The pictures of one folder of classes."""
    classes = _folders(folder)
    found = {inner.name: _pictures(inner) for inner in classes}
    deeper = {name: deep for name in found if (deep := _deeper(folder / name))}
    if not any(pictures for pictures, _ in found.values()):
        if deeper:
            name, inner = next(iter(deeper.items()))
            whole = f"give {folder / name}" if len(found) == 1 else f"move them up to {name}/"
            raise DataError(
                f"{folder}: its pictures lie a level too deep, as {name}/{inner[0]}; {whole}, or "
                "remove that level"
            )
        raise DataError(
            f"{folder}: holds no images{_what_it_holds(folder, found)}; put them into one folder "
            f"a class: {folder.name}/cat/1.jpg …"
        )
    if len(classes) == 1:
        raise DataError(
            f"{folder}: holds images of one class only, {classes[0].name!r}; a classifier needs "
            "two folders or more"
        )
    for name, (pictures, others) in found.items():
        if not pictures:
            kinds = f" (but {others[0]}{_more(len(others) - 1)})" if others else ""
            if name in deeper:
                kinds = f" but a level too deep, as {deeper[name][0]}"
            raise DataError(
                f"{folder / name}: holds no images{kinds}; add some, or remove the folder"
            )
    loose = _pictures(folder)[0]
    if loose:
        remarks.append(
            f"{folder}: {loose[0]}{_more(len(loose) - 1)} lie in no class folder and are not used"
        )
    for name, inner in deeper.items():
        remarks.append(
            f"{folder / name}: {inner[0]}{_more(len(inner) - 1)} lie a level too deep and are not "
            "used"
        )
    names = [f"{name}/{picture}" for name, (pictures, _) in found.items() for picture in pictures]
    counts = [len(pictures) for pictures, _ in found.values()]
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    return Items(folder, tuple(names), labels, tuple(found))


def _deeper(folder: Path, levels: int = 2) -> list[str]:
    """Pictures in the folders within `folder`, or within those, of the first that holds some."""
    with suppress(DataError):  # what cannot be read there is not used either
        for inner in _folders(folder) if levels else ():
            pictures = _pictures(inner)[0] or _deeper(inner, levels - 1)
            if pictures:
                return [f"{inner.name}/{picture}" for picture in pictures]
    return []


def _what_it_holds(folder: Path, found: dict[str, tuple[list[str], list[str]]]) -> str:
    loose = _pictures(folder)[0]
    if loose:
        return f" in class folders, but {loose[0]}{_more(len(loose) - 1)} beside them"
    others = [f"{name}/{other}" for name, (_, rest) in found.items() for other in rest]
    if others:
        return f" ({others[0]}{_more(len(others) - 1)} of other kinds)"
    return "" if found else "; it has no folders"


def _more(count: int) -> str:
    return f" and {count} more" if count else ""


def _same_classes(folder: Path, train: Items, val: Items) -> None:
    names = train.root.name, val.root.name
    for has, lacks, part, other in ((train, val, *names), (val, train, *names[::-1])):
        lone = [name for name in has.class_names if name not in lacks.class_names]
        if lone:
            raise DataError(
                f"{folder}: {part} has a class {lone[0]!r}{_more(len(lone) - 1)} that {other} "
                "lacks; both need the same folders"
            )


def _split(items: Items, fraction: float, seed: int) -> tuple[Items, Items]:
    """(train, validation), class by class, each in the order of the files."""
    held: list[int] = []
    for label, name in enumerate(items.class_names):
        indices = np.flatnonzero(items.labels == label)
        if len(indices) < 2:
            raise DataError(
                f"{items.root / name}: holds one image only; a class needs two, one of them to "
                "validate on"
            )
        held.extend(indices[held_out(len(indices), fraction, seed, _SPLIT, label)[0]].tolist())
    validation = np.zeros(len(items), bool)
    validation[held] = True
    return items.take(np.flatnonzero(~validation)), items.take(np.flatnonzero(validation))


def _folders(folder: Path) -> list[Path]:
    """The folders in `folder` that are not hidden, by name."""
    entries = _entries(folder)
    return [folder / e.name for e in entries if _is_dir(e)]


def _pictures(folder: Path) -> tuple[list[str], list[str]]:
    """(names of pictures, names of other files) in `folder`, by name; hidden ones left out.

    A link that leads nowhere counts as the file it should be: reading it will name it. Pipes and
    devices, whose reading might never end, are no pictures.
    """
    pictures: list[str] = []
    others: list[str] = []
    for entry in _entries(folder):
        if _is_dir(entry):
            continue
        known = PurePath(entry.name).suffix.lower() in SUFFIXES
        known = known and (_leads_nowhere(entry.path) or entry.is_file())
        (pictures if known else others).append(entry.name)
    return pictures, others


def _is_dir(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one; links in circles are none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _leads_nowhere(path: str) -> bool:
    try:
        Path(path).stat()
    except OSError:
        return True
    return False


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            entries = [entry for entry in found if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be read ({error.strerror or error}); change its permissions, or "
            "leave it out"
        ) from error
    return sorted(entries, key=lambda entry: entry.name)
