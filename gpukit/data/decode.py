"""Decodes pictures into square crops of one size, in this process or in a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukit.data.augment import Augment, Crop
from gpukit.data.images import on_white, opened
from gpukit.data.levels import Levels, checked
from gpukit.errors import DataError

CHANNELS = 3


@dataclass(frozen=True)
class Bad:
    """A picture that cannot be read, the reason, and the one that replaced it (-1: none)."""

    index: int
    reason: str
    instead: int


def read_crops(
    path: str | Path,
    square: int,
    crops: Sequence[Crop],
    out: NDArray[np.uint8],
    levels: Levels | None = None,
) -> None:
    """Fill `out`, uint8 (views, size, size, 3), with crops of the picture in a file.

    The largest central square of the picture is brought to square×square pixels (bilinear, over
    all pixels that each one covers), and the crops are cut from that. `levels` are black and
    white of pictures of more than 8 bits (see `levels.levels_of`). `DataError` names the file.
    """
    from PIL import Image

    picture = on_white(opened(path, [], square, levels), [])
    if picture.mode != "RGB":
        picture = picture.convert("RGB")
    width, height = picture.size
    side = min(width, height)
    x, y, size = (width - side) / 2, (height - side) / 2, out.shape[1]
    if len(crops) == 1:
        # Only what the crop shows is resized. A pixel is the same as in the whole square, to one
        # level: Pillow rounds between the two axes, and takes first the one that costs less.
        top, left, flip = crops[0]
        scale = side / square
        box = (
            x + left * scale,
            y + top * scale,
            min(x + (left + size) * scale, width),
            min(y + (top + size) * scale, height),
        )
        pixels = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR, box))
        out[0] = pixels[:, ::-1] if flip else pixels
        return
    whole = (x, y, x + side, y + side)
    pixels = np.asarray(picture.resize((square, square), Image.Resampling.BILINEAR, whole))
    for view, (top, left, flip) in zip(out, crops, strict=True):
        cut = pixels[top : top + size, left : left + size]
        view[:] = cut[:, ::-1] if flip else cut


class Decoder:
    """Reads pictures by index: the same pixels in every process.

    `path(index)` gives the file, `labels` int64 (N,) the classes; `size`, `square`, `seed` and
    `augment` fix the crops. A file that cannot be read raises `DataError`; where `skip`, the next
    one of its class that can takes its place, or with `drop` none does. With `remember`, it is
    not tried again: `known` has the reasons of such files by index, and gets them.
    """

    def __init__(
        self,
        path: Callable[[int], str | Path],
        labels: NDArray[np.int64],
        *,
        size: int,
        square: int,
        seed: int,
        augment: Augment,
        skip: bool,
        remember: bool = False,
        known: Iterable[tuple[int, str]] = (),
        levels: Levels | None = None,
        drop: bool = False,
    ) -> None:
        self._path, self._labels = path, labels
        self.size, self.square, self.seed = size, square, seed
        self.augment, self.skip, self.remember = augment, skip, remember
        self.known = dict(known)
        self.levels, self.drop = checked(levels), drop

    def fill(
        self,
        epoch: int,
        indices: Sequence[int],
        x: NDArray[np.uint8],
        shift: NDArray[np.float32],
        begin: Callable[[int], Any] = lambda index: None,
    ) -> list[Bad]:
        """Read pictures into x (N·views, size, size, 3) and shifts of colours into (N·views, 3).

        `begin` is called with the index of each file before it is opened. Returns what was bad.
        """
        bad: list[Bad] = []
        views = self.augment.views
        for place, index in enumerate(indices):
            rows = slice(place * views, (place + 1) * views)
            crops, colour = self.augment.draw(self.seed, epoch, index, self.square, self.size)
            shift[rows] = colour
            reason = self._read(index, crops, x[rows], begin)
            if reason:
                if not self.skip:
                    raise DataError(f"{reason}; --bad-images skip goes on without such files")
                instead = -1 if self.drop else self._instead(index, crops, x[rows], begin)
                bad.append(Bad(index, reason, instead))
        return bad

    def _read(
        self, index: int, crops: list[Crop], out: NDArray[np.uint8], begin: Callable[[int], Any]
    ) -> str:
        """Fill `out` with picture `index`; why that cannot be, or nothing."""
        if index in self.known:
            return self.known[index]
        begin(index)
        try:
            read_crops(self._path(index), self.square, crops, out, self.levels)
        except DataError as error:
            if self.remember:
                self.known[index] = str(error)
            return str(error)
        return ""

    def _instead(
        self, index: int, crops: list[Crop], out: NDArray[np.uint8], begin: Callable[[int], Any]
    ) -> int:
        """Fill `out` with the next picture of the same class that can be read; its index."""
        alike = np.flatnonzero(self._labels == self._labels[index])
        first = int(np.searchsorted(alike, index))
        for other in np.roll(alike, -first)[1:].tolist():
            if not self._read(other, crops, out, begin):
                return other
        raise DataError(
            f"{Path(self._path(index)).parent}: none of its {len(alike)} images can be read; "
            "replace them"
        )
