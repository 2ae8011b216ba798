"""JPEG files to training batches: gpukit's feed against torch's DataLoader, with as many workers.

Both read the same files in the same order with the same crops and flips, decode and resize with
Pillow, and give uint8 batches; before anything is timed their pixels are compared. `same calls` has
the rival make gpukit's very calls to Pillow; `usual calls` those that transforms of a DataLoader
make (the whole picture resized to a shorter side of 256, then cropped), which lie up to a pixel
beside gpukit's.
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.contest import Result, Worker, alternate, seconds
from gpukit.core import process
from gpukit.data import Augment, ImageFeed, scan

WIDTH, HEIGHT = 500, 375  # the usual size in ImageNet
IMAGES, BATCH, SIZE, SQUARE, WORKERS = 256, 64, 227, 256, 2
ROUNDS = 9
VARIANTS = ("same calls", "usual calls")


def photograph(seed: int) -> np.ndarray:
    """uint8 (HEIGHT, WIDTH, 3) with a photograph's 1/f spectrum, correlated colours and edges; as
    JPEG of quality 90 it takes about as many bytes as a picture of ImageNet, 110 kB."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None])
    frequency[0, 0] = 1

    def field(power: float) -> np.ndarray:
        spectrum = np.fft.rfft2(rng.standard_normal((HEIGHT, WIDTH))) / frequency**power
        plane = np.fft.irfft2(spectrum, (HEIGHT, WIDTH))
        return (plane - plane.mean()) / plane.std()

    light = field(1.0) + 0.8 * np.sign(field(1.6))
    colours = [light + 0.35 * field(1.3) for _ in range(3)]
    return np.clip(120 + 45 * np.stack(colours, axis=-1), 0, 255).astype(np.uint8)


def write_photographs(root: Path) -> None:
    """IMAGES JPEGs of two classes, four of each drawn one; their files differ."""
    for number in range(IMAGES):
        folder = root / "train" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        if number % 4 == 0:
            pixels = photograph(number)
        turned = np.roll(pixels[:: -1 if number % 4 > 1 else 1], 37 * number, axis=1)
        Image.fromarray(turned).save(folder / f"{number:04}.jpg", quality=90)
    for name in "ab":
        (root / "val" / name).mkdir(parents=True, exist_ok=True)
        first = next((root / "train" / name).iterdir())
        (root / "val" / name / "0000.jpg").write_bytes(first.read_bytes())


def ours(root: Path) -> tuple[ImageFeed, Callable[[int], Iterator[np.ndarray]]]:
    """The feed, and its batches by epoch."""
    feed = ImageFeed(
        scan(root).train, BATCH, SIZE, Augment(), resize=SQUARE, seed=1, workers=WORKERS
    )
    return feed, lambda epoch: (batch.x for batch in feed.epoch(epoch))


def _loader(root: Path, variant: str) -> Callable[[int], Iterator[Any]]:
    """The rival's batches by epoch; runs in a worker process."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    from gpukit.data.order import permutation

    items, augment = scan(root).train, Augment()
    paths = [str(items.path(index)) for index in range(len(items))]
    labels = items.labels.tolist()
    epoch = multiprocessing.Value("q", 0)

    class Pictures(Dataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, index: int) -> tuple[Any, int]:
            ((top, left, flip),), _ = augment.draw(1, epoch.value, index, SQUARE, SIZE)
            with Image.open(paths[index]) as picture:
                if variant == "same calls":
                    picture.draft(None, _draft(picture.size))
                    cut = _direct(picture.convert("RGB"), top, left)
                else:
                    cut = _whole(picture.convert("RGB"), top, left)
            pixels = np.asarray(cut)
            return torch.from_numpy(pixels[:, ::-1].copy() if flip else pixels.copy()), labels[
                index
            ]

    class Order:
        def __len__(self) -> int:
            return len(paths)

        def __iter__(self) -> Iterator[int]:
            return iter(permutation(len(paths), 1, 0, epoch.value).tolist())

    loader = DataLoader(
        Pictures(),
        BATCH,
        sampler=Order(),  # type: ignore[arg-type]
        num_workers=WORKERS,
        persistent_workers=True,
        prefetch_factor=3,
        multiprocessing_context="fork",
    )

    def batches(number: int) -> Iterator[Any]:
        epoch.value = number
        return (x for x, _ in loader)

    return batches


def _draft(size: tuple[int, int]) -> tuple[int, int]:
    return size[0] * SQUARE // min(size), size[1] * SQUARE // min(size)


def _direct(picture: Image.Image, top: int, left: int) -> Image.Image:
    width, height = picture.size
    side = min(width, height)
    x, y, scale = (width - side) / 2, (height - side) / 2, side / SQUARE
    box = (x + left * scale, y + top * scale, x + (left + SIZE) * scale, y + (top + SIZE) * scale)
    return picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box)


def _whole(picture: Image.Image, top: int, left: int) -> Image.Image:
    width, height = picture.size
    factor = SQUARE / min(width, height)
    resized = picture.resize(
        (round(width * factor), round(height * factor)), Image.Resampling.BILINEAR
    )
    x, y = (resized.width - SQUARE) // 2 + left, (resized.height - SQUARE) // 2 + top
    return resized.crop((x, y, x + SIZE, y + SIZE))


class _Rival:
    """In the worker process: loaders by variant, over the pictures in a folder."""

    def __init__(self) -> None:
        self._loaders: dict[str, Callable[[int], Iterator[Any]]] = {}

    def _batches(self, root: str, variant: str, epoch: int) -> Iterator[Any]:
        loader = self._loaders.setdefault(variant, _loader(Path(root), variant))
        return loader(epoch)

    def pixels(self, file: str, **order: Any) -> dict[str, Any]:
        """Write all pixels of an epoch to a file; their shape."""
        pixels = np.concatenate([x.numpy() for x in self._batches(**order)])
        pixels.tofile(file)
        return {"shape": pixels.shape}

    def run(self, **order: Any) -> dict[str, Any]:
        """Seconds of an epoch."""
        return {"seconds": seconds(lambda: deque(self._batches(**order), maxlen=0))}


def race() -> Iterator[Result]:
    """Compare pixels, then alternate epochs; milliseconds are per image."""
    with tempfile.TemporaryDirectory() as folder, Worker("DataLoader", "bench.loading") as rival:
        root = Path(folder)
        write_photographs(root)
        feed, batches = ours(root)
        with feed:
            for variant in VARIANTS:
                yield _contest(root, variant, batches, rival)


def _contest(
    root: Path,
    variant: str,
    batches: Callable[[int], Iterator[np.ndarray]],
    rival: Worker,
) -> Result:
    def ask(do: str, epoch: int, **more: Any) -> dict[str, Any]:
        return rival.told(do, root=str(root), variant=variant, epoch=epoch, **more)

    file = root / "pixels"
    shape = ask("pixels", 0, file=str(file))["shape"]
    decoded, mine = np.fromfile(file, np.uint8).reshape(shape), np.concatenate(list(batches(0)))
    distance = np.abs(decoded.astype(np.int16) - mine)
    same = variant == VARIANTS[0]
    if decoded.shape != mine.shape or (distance.any() if same else distance.mean() > 15):
        raise SystemExit(f"loading, {variant}: the pixels differ by up to {distance.max()}")
    rounds = [iter(range(1, ROUNDS + 2)) for _ in range(2)]  # epochs of each
    theirs, ours = alternate(
        [
            lambda: float(ask("run", next(rounds[0]))["seconds"]),
            lambda: seconds(partial(deque, batches(next(rounds[1])), maxlen=0)),
        ],
        ROUNDS,
    )
    rates = [IMAGES / statistics.median(times) for times in (ours, theirs)]
    text = f"{rates[0]:.0f} against {rates[1]:.0f} images/s"
    name = f"{variant}, {WORKERS} workers"
    return Result.of("loading", name, ours, theirs, text, per=IMAGES)


if __name__ == "__main__":
    loaders = _Rival()
    process.serve({"pixels": loaders.pixels, "run": loaders.run})
