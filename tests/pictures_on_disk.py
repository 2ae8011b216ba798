"""Writes folders of small pictures whose classes are easy to tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

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
