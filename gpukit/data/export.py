"""Writes a data set out as folders of pictures, one a class."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukit.core import settings
from gpukit.core.locks import is_at, lock_folder
from gpukit.data.dataset import Dataset
from gpukit.data.folder import TRAIN, VAL
from gpukit.errors import DataError, SettingError

FORMATS = {"jpeg": ".jpg", "png": ".png"}
QUALITY = 95
FORMATS_OF_PILLOW = {suffix: name.upper() for name, suffix in FORMATS.items()}

_PART = ".part"


def export(
    dataset: Dataset,
    out: str | Path,
    *,
    format: str = "jpeg",
    quality: int = QUALITY,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, int]:
    """Write OUT/train/CLASS/00001.jpg … and OUT/val/CLASS/…, the test images; the number of each.

    A file's number is the image's place in its part, from 1. JPEGs have `quality` (1 to 100) and
    colours at full resolution. OUT takes its name when all is written; what a broken export left
    beside it, .OUT.part, the next one removes. `progress(done, total)` counts images. Raises
    `DataError` where OUT holds something already or cannot be written.
    """
    if format not in FORMATS:
        raise SettingError(f"format {format!r}: use {' or '.join(FORMATS)}")
    if not 1 <= quality <= 100:
        raise SettingError(f"quality {quality}: use 1 to 100")
    out = settings.expanded(out).absolute()
    part = out.parent / f".{out.name}{_PART}"
    parts = {
        TRAIN: (dataset.train_images, dataset.train_labels),
        VAL: (dataset.test_images, dataset.test_labels),
    }
    names = _folder_names(dataset.class_names)
    options: dict[str, Any] = {"quality": quality, "subsampling": 0} if format == "jpeg" else {}
    total, done = sum(len(labels) for _, labels in parts.values()), 0
    with _making(part, out):
        for name, (images, labels) in parts.items():
            for folder in sorted({names[label] for label in np.unique(labels)}):
                (part / name / folder).mkdir(parents=True)
            digits = max(5, len(str(len(labels))))
            for number, (image, label) in enumerate(zip(images, labels, strict=True), 1):
                file = f"{number:0{digits}}{FORMATS[format]}"
                _write(image, part / name / names[label] / file, options)
                done += 1
                progress(done, total)
    return {name: len(labels) for name, (_, labels) in parts.items()}


@contextmanager
def _making(part: Path, out: Path) -> Iterator[None]:
    """Within the block the folder `part`, empty at first, is this process's; then it is `out`.

    Raises `DataError` where `out` is there already, or another process makes it.
    """
    descriptor = None
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise DataError(f"{out}: is there already; choose another folder, or remove it")
        descriptor, _ = lock_folder(part)
        for old in part.iterdir():
            shutil.rmtree(old)
        yield
        part.replace(out)
    except BlockingIOError:
        raise DataError(
            f"{out}: is being written by another export; wait for it, or choose another folder"
        ) from None
    except OSError as error:
        raise DataError(
            f"{out}: cannot be written ({error.strerror or error}); make room there, or choose "
            "another folder"
        ) from error
    finally:
        if descriptor is not None:
            if is_at(descriptor, part):
                shutil.rmtree(part, ignore_errors=True)
            os.close(descriptor)


def _write(image: NDArray[np.uint8], path: Path, options: dict[str, Any]) -> None:
    from PIL import Image

    # Not straight to the file: Pillow does not notice there that the disk is full.
    content = io.BytesIO()
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    picture.save(content, FORMATS_OF_PILLOW[path.suffix], **options)
    path.write_bytes(content.getvalue())


def _folder_names(class_names: tuple[str, ...]) -> list[str]:
    """The classes' names without what a folder's name cannot have."""
    names = [
        "".join("-" if c in '/\\:*?"<>|' or ord(c) < 32 else c for c in name).strip(". ") or "-"
        for name in class_names
    ]
    if len({os.path.normcase(name) for name in names}) < len(names):
        raise DataError(f"classes {', '.join(class_names)}: two would be one folder; rename one")
    return names
