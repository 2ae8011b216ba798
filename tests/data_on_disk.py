"""Writes small data sets: pictures whose classes are easy to tell, and IDX files of noise."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
from PIL import Image

from gpukit.data.idx import write_idx
from gpukit.data.sources import IDX_NAMES

COLOURS = {"blue": (30, 60, 200), "green": (40, 180, 50), "red": (220, 40, 40)}


def write_pictures(
    folder: Path, *, train: int = 16, val: int = 6, classes: tuple[str, ...] = tuple(COLOURS)
) -> Path:
    """FOLDER/train/CLASS/0.png … and FOLDER/val/CLASS/…, noise about a colour for each class.

    With `val` 0 there is one level, FOLDER/CLASS/….
    """
    rng = np.random.default_rng(5)
    parts = {"train": train, "val": val} if val else {".": train}
    for part, count in parts.items():
        for name in classes:
            inner = folder / part / name
            inner.mkdir(parents=True)
            for number in range(count):
                noise = rng.normal(COLOURS[name], 40, (36, 40, 3))
                pixels = np.clip(noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(inner / f"{number}.png")
    return folder


def idx_bytes(array: np.ndarray) -> bytes:
    """The content of an IDX file."""
    stream = io.BytesIO()
    write_idx(stream, array)
    return stream.getvalue()


def write_set(
    folder: Path,
    train: int = 40,
    test: int = 40,
    *,
    size: tuple[int, int] = (28, 28),
    classes: int = 10,
    label: int | None = None,
    packed: bool = False,
) -> Path:
    """Four IDX files of grey noise; with `label`, that one is the last train label.

    Files of images are `packed` by gzip.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    for name, count in zip(IDX_NAMES, (train, train, test, test)):
        if "images" in name:
            content = idx_bytes(rng.integers(0, 256, (count, *size), dtype=np.uint8))
        else:
            labels = (np.arange(count) % classes).astype(np.uint8)
            if label is not None and name.startswith("train"):
                labels[-1] = label
            content = idx_bytes(labels)
        if packed and "images" in name:
            name, content = f"{name}.gz", gzip.compress(content)
        (folder / name).write_bytes(content)
    return folder
