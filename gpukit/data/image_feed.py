"""Feed of pictures that are read from files on demand."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukit.data.augment import Augment
from gpukit.data.decode import CHANNELS, Bad, Decoder
from gpukit.data.feed import Batch, Feed, check_batch_size, check_position
from gpukit.data.folder import Items
from gpukit.data.levels import Levels
from gpukit.data.order import permutation
from gpukit.data.quarantine import Quarantine
from gpukit.data.whole import unreadable
from gpukit.data.workers import Job, Workers
from gpukit.errors import CheckpointError, DataError, SettingError

AHEAD = 3  # batches that workers read before they are asked for
POLICIES = ("raise", "skip", "quarantine")

_STREAM = 0


def resized(size: int) -> int:
    """Side of the square that crops of `size` are cut from.

    256 for 227 and 224, as in the paper; in that proportion, in steps of 4 pixels, for others.
    """
    return -(-size * 256 // (227 * 4)) * 4


class ImageFeed(Feed):
    """Pictures of `items` as batches of uint8 (N, size, size, 3), cut and coloured by `augment`.

    The largest central square of each picture is brought to `resize` pixels (default: `resized`),
    and crops of `size` are cut from that: by default the central one, in the order of the files,
    which is for evaluation. With an `augment` that draws, the order is drawn too (`shuffle` says
    otherwise). All depends on (seed, epoch, index of the picture) and not on `workers`: 0 reads
    the pictures as they are asked for, more start that many processes, which read ahead.

    Pictures of 16 bits are value/257; `levels` (low, high) are black and white of all pictures of
    more than 8 bits, and must be given where they hold floats.

    A picture that cannot be read raises `DataError` with its name; where `bad_images` is "skip",
    another one of its class takes its place, and `remarks` counts them; where nothing is drawn, as
    in evaluation, or `replace_bad` is False, it is left out instead (`left_out`).
    "quarantine" does the same, and does not try such a picture again: `quarantine` lists them, and
    may be kept in a file.
    """

    def __init__(
        self,
        items: Items,
        batch_size: int = 128,
        size: int = 227,
        augment: Augment | None = None,
        *,
        resize: int | None = None,
        seed: int = 0,
        workers: int = 0,
        bad_images: str = "raise",
        shuffle: bool | None = None,
        quarantine: Quarantine | None = None,
        levels: Levels | None = None,
        replace_bad: bool | None = None,
    ) -> None:
        check_batch_size(batch_size)
        if size < 1:
            raise SettingError(f"size={size}: crops have 1 pixel or more")
        resize = resized(size) if resize is None else resize
        if resize < size:
            raise SettingError(f"resize={resize}: crops of {size} need {size} or more")
        if workers < 0:
            raise SettingError(f"workers={workers}: use 0 or more")
        if bad_images not in POLICIES:
            raise SettingError(f"bad_images {bad_images!r}: use {', '.join(POLICIES)}")
        if seed < 0:
            raise SettingError(f"seed {seed}: use 0 or more")
        augment = Augment("centre", flip=False) if augment is None else augment
        self._items = items
        self._shuffle = augment.random if shuffle is None else shuffle
        self._workers = workers
        self._decoder = Decoder(
            items.path,
            items.labels,
            size=size,
            square=resize,
            seed=seed,
            augment=augment,
            skip=bad_images != "raise",
            remember=bad_images == "quarantine",
            levels=levels,
            drop=not (augment.random if replace_bad is None else replace_bad),
        )
        self.quarantine = None
        if bad_images == "quarantine":
            self.quarantine = Quarantine() if quarantine is None else quarantine
        self._pool: Workers | None = None
        self._busy = False
        self.bad: dict[int, Bad] = {}
        """What could not be read since the last epoch began, by the picture's index."""
        self.count, self.batch_size = len(items), batch_size
        self.image_shape = (size, size, CHANNELS)
        self.class_names, self.targets = items.class_names, items.labels
        self.views = augment.views

    def check(self, tell: Callable[[str], None] = lambda text: None) -> None:
        """Look for pictures that cannot be read before they are needed.

        Raises `DataError` for the first one, unless `bad_images` lets it pass: then `tell` gets a
        line that counts them. `unreadable` says what is looked at.
        """
        found = unreadable(self._items, self._decoder.levels, tell)
        for index, reason in found.items():
            if not self._decoder.skip:
                raise DataError(f"{reason}; --bad-images skip goes on without such files")
            if self.quarantine is not None:
                self.quarantine.add(self._items.path(index), reason)
        if len(found) == self.count:
            raise self._none()
        if found:
            tell(
                f"{len(found)} of {self.count} images in {self._items.root} cannot be read: "
                f"{next(iter(found.values()))}"
            )

    @property
    def augment(self) -> Augment:
        """How pictures are cut and coloured."""
        return self._decoder.augment

    @property
    def pids(self) -> list[int]:
        """Numbers of the worker processes that run."""
        return [] if self._pool is None else self._pool.pids

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        check_position(number, start)
        if self._shuffle:
            order = permutation(self.count, self._decoder.seed, _STREAM, number)
        else:
            order = np.arange(self.count)
        parts = (
            order[first : first + self.batch_size].astype(np.int64)
            for first in range(start * self.batch_size, self.count, self.batch_size)
        )
        read = self._ahead if self._workers else self._here
        return self._any(read(number, parts))

    def _any(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """`batches`; DataError where every picture was left out."""
        yield from batches
        if 0 < self.count == len(self.left_out):
            raise self._none()

    def _none(self) -> DataError:
        return DataError(
            f"{self._items.root}: none of its {self.count} images can be read; replace them"
        )

    def _begin(self) -> None:
        self.bad = {}
        if self.quarantine is not None and self.quarantine.reasons:
            known = self.quarantine.reasons
            paths = ((index, str(self._items.path(index))) for index in range(self.count))
            self._decoder.known.update((i, known[path]) for i, path in paths if path in known)

    def _here(self, number: int, parts: Iterator[NDArray[np.int64]]) -> Iterator[Batch]:
        self._begin()
        for indices in parts:
            rows = len(indices) * self.views
            x = np.empty((rows, *self.image_shape), np.uint8)
            shift = np.empty((rows, CHANNELS), np.float32)
            bad = self._decoder.fill(number, indices.tolist(), x, shift)
            yield from self._batch(indices, x, shift, bad)

    def _ahead(self, number: int, parts: Iterator[NDArray[np.int64]]) -> Iterator[Batch]:
        if self._busy:
            raise SettingError("this feed gives an epoch already; end that one, or make a second")
        self._begin()
        if self._pool is None:
            self._pool = Workers(self._items, self._decoder, self._workers, self.batch_size, AHEAD)
        pool = self._pool
        jobs: deque[tuple[NDArray[np.int64], Job]] = deque()
        self._busy = True
        try:
            for indices in islice(parts, pool.free):
                jobs.append((indices, pool.submit(number, indices)))
            while jobs:
                indices, job = jobs.popleft()
                x, shift, bad = pool.collect(job)
                for following in islice(parts, 1):
                    jobs.append((following, pool.submit(number, following)))
                yield from self._batch(indices, x, shift, bad)
        except GeneratorExit:
            pool.drop([job for _, job in jobs])
            raise
        except BaseException:
            self.close()
            raise
        finally:
            self._busy = False

    def _batch(
        self,
        indices: NDArray[np.int64],
        x: NDArray[np.uint8],
        shift: NDArray[np.float32],
        bad: list[Bad],
    ) -> Iterator[Batch]:
        """The batch as it was read, less what was left out; none where nothing remains."""
        self.bad.update((entry.index, entry) for entry in bad)
        if self.quarantine is not None:
            for entry in bad:
                self.quarantine.add(self._items.path(entry.index), entry.reason)
        if bad and self._decoder.drop:
            kept = ~np.isin(indices, [entry.index for entry in bad])
            rows = np.repeat(kept, self.views)
            indices, x, shift = indices[kept], x[rows], shift[rows]
        if len(indices):
            colour = None if self.augment.colour is None else shift
            yield Batch(x, self._items.labels[indices], colour)

    @property
    def left_out(self) -> list[int]:
        return sorted(self.bad) if self._decoder.drop else []

    def remarks(self) -> list[str]:
        if not self.bad:
            return []
        first = min(self.bad)
        more = f", and {len(self.bad) - 1} more" if len(self.bad) > 1 else ""
        became = ", others of their classes took their places"
        if self._decoder.drop:
            became = " and were left out"
        return [
            f"{len(self.bad)} of {self.count} images could not be read{became}: "
            f"{self.bad[first].reason}{more}{self._kept()}"
        ]

    def _kept(self) -> str:
        if self.quarantine is None:
            return ""
        place = self.quarantine.place
        return "; they are not tried again" + (f": {place} lists them" if place else "")

    def config(self) -> dict[str, Any]:
        return {
            "images": self.count,
            "files": self._items.digest(),
            "batch_size": self.batch_size,
            "size": self._decoder.size,
            "resize": self._decoder.square,
            "seed": self._decoder.seed,
            "shuffle": self._shuffle,
            "augment": self.augment.config(),
            **({"levels": list(levels)} if (levels := self._decoder.levels) else {}),
        }

    def take_up(self, config: dict[str, Any]) -> None:
        here = self.config()
        begun = Augment.from_config(config.get("augment", {}))
        # Keep the colours of the first run: computed again, their last bits might differ.
        same = replace(begun, colour=None) == replace(self.augment, colour=None)
        for name, value in here.items():
            if name != "augment" and config.get(name) != value:
                found = "other files" if name == "files" else f"{name} {value}"
                raise CheckpointError(
                    f"the images are not those that training began with: {found} "
                    f"instead of {config.get(name)!r}; bring them back, or begin anew"
                )
        if not same:
            raise CheckpointError(
                f"training began with crops and flips {begun.crop}, {begun.flip}, not "
                f"{self.augment.crop}, {self.augment.flip}; use those, or begin anew"
            )
        if begun != self.augment:
            self.close()
            self._decoder.augment = begun

    def close(self) -> None:
        """End the workers; another epoch starts them again."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()


def colours(feed: Feed) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(mean (C,), covariance (C, C)) of the pixels of a feed's first epoch, in grey levels.

    Exact sums of whole numbers, so neither the batches nor the machine change a bit of them.
    """
    channels = feed.image_shape[-1]
    total, products, pixels = np.zeros(channels, np.int64), np.zeros((channels,) * 2, np.int64), 0
    for batch in feed.epoch():
        flat = batch.x.reshape(-1, channels)
        total += flat.sum(axis=0, dtype=np.int64)
        for i in range(channels):
            for j in range(i, channels):
                # In uint16 a product of two bytes fits exactly.
                product = np.multiply(flat[:, i], flat[:, j], dtype=np.uint16)
                products[i, j] += product.sum(dtype=np.int64)
        pixels += len(flat)
    if pixels == 0:
        raise DataError("there are no images to take the mean of")
    mean = total / pixels
    products = np.triu(products) + np.triu(products, 1).T
    return mean, products / pixels - np.outer(mean, mean)
