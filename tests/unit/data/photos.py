"""Pictures for these tests, like photographs: smooth colours, some edges, some noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def photo(width: int, height: int, seed: int = 0) -> np.ndarray:
    """uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    pixels = np.empty((height, width, 3))
    for channel in range(3):
        a, b, c = rng.uniform(2, 9, 3)
        pixels[..., channel] = 127 + 60 * np.sin(a * x + b * y) + 40 * np.cos(c * x * y * 6)
    cx, cy = rng.uniform(0.2, 0.8, 2)
    pixels[(x - cx) ** 2 + (y - cy) ** 2 < 0.04] += rng.uniform(-60, 60, 3)
    return np.clip(pixels + rng.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8)


def folder(root: Path, train: int = 12, val: int = 4, classes: str = "abc") -> Path:
    """JPEGs of several sizes in root/train/CLASS and root/val/CLASS."""
    sizes = ((90, 70), (64, 64), (50, 81), (33, 47))
    for part, count in (("train", train), ("val", val)):
        for label, name in enumerate(classes):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                seed = 1000 * label + number + (500 if part == "val" else 0)
                pixels = photo(*sizes[number % 4], seed)
                Image.fromarray(pixels).save(root / part / name / f"{number:03}.jpg", quality=90)
    return root


def damage(path: Path) -> None:
    """Cut a JPEG off in the middle of its pixels."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
