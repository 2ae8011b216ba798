"""Feeds, from which training takes batches, and the one of arrays in memory."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukit.core.blocks import Closing
from gpukit.core.config import flag, show, whole
from gpukit.data.normalise import Normalise
from gpukit.data.order import permutation
from gpukit.errors import DataError, SettingError

_STREAM, _MAPPED = 0, 6  # streams of random numbers


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples x (N·views, …), targets y (N, …), and what is added to each image's channels.

    `shift` is float32 (N·views, C), in grey levels of uint8 images, or None. `weight` (N,) weights
    the losses of samples; None: all count alike. Later batches do not change the arrays of this
    one.
    """

    x: NDArray[Any]
    y: NDArray[Any]
    shift: NDArray[np.float32] | None = None
    weight: NDArray[Any] | None = None


class Feed(Closing, ABC):
    """Batches of labelled samples, epoch after epoch; what `fit` and `evaluate` take.

    `count` samples an epoch come in batches of `batch_size` (the last may be smaller), each sample
    of `image_shape`, (H, W, C) for images, and `dtype`. Of every sample there are `views` in a
    row (crops of one picture), whose outputs are averaged; training takes one. `class_names` may
    be empty. A feed is a context manager, and `close` frees what it holds.
    """

    count: int
    batch_size: int
    image_shape: tuple[int, ...]
    dtype: np.dtype[Any] = np.dtype(np.uint8)
    class_names: tuple[str, ...] = ()
    views: int = 1
    labelled: bool = True
    """Whether the targets are any; without, only `predict` takes the feed."""
    targets: NDArray[Any] | None = None
    """Targets of all samples in stored order, where they are known before any sample is read."""

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return -(-self.count // self.batch_size)

    @abstractmethod
    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number`, from batch `start` on.

        They depend on `number` and on the feed's settings alone: the remaining batches of an
        interrupted epoch come again with the same bits.
        """

    def config(self) -> dict[str, Any]:
        """What must match for a run to resume with this feed, in JSON's types."""
        return {}

    def take_up(self, config: dict[str, Any]) -> None:
        """Resume as the feed of `config`; raises `CheckpointError` where this is another."""
        return None

    def remarks(self) -> list[str]:
        """What there is to say of the epoch that ended, a line each."""
        return []

    @property
    def left_out(self) -> list[int]:
        """Samples, by their place in `targets`, that the epoch which ended did not give."""
        return []

    def map(self, function: Callable[..., tuple[Any, Any]], *, seed: int = 0) -> Feed:
        """A feed whose batches are function(x, y), or function(x, y, rng) if it needs three.

        `rng` is a `numpy.random.Generator` that (seed, epoch, batch) fixes, so that an interrupted
        epoch resumes with the same numbers.
        """
        return Mapped(self, function, seed)

    def close(self) -> None:
        """Free what the feed holds; an epoch opens it again."""


class Wrapped(Feed):
    """Base of feeds that change the batches of another: the rest is as that says."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self.count, self.batch_size, self.views = feed.count, feed.batch_size, feed.views
        self.image_shape, self.dtype = feed.image_shape, feed.dtype
        self.class_names, self.targets = feed.class_names, feed.targets
        self.labelled = feed.labelled

    def config(self) -> dict[str, Any]:
        return self._feed.config()

    def take_up(self, config: dict[str, Any]) -> None:
        self._feed.take_up(config)

    def remarks(self) -> list[str]:
        return self._feed.remarks()

    @property
    def left_out(self) -> list[int]:
        return self._feed.left_out

    def close(self) -> None:
        self._feed.close()


class Mapped(Wrapped):
    """What `Feed.map` makes."""

    def __init__(self, feed: Feed, function: Callable[..., tuple[Any, Any]], seed: int) -> None:
        if feed.views != 1:
            raise SettingError(f"map: the feed gives {feed.views} views of each image; use one")
        super().__init__(feed)
        self._function, self._seed = function, whole("seed", seed, low=0)
        needed = inspect.signature(function).parameters.values()
        self._draws = sum(p.default is p.empty for p in needed) > 2
        self.targets = None  # what the function makes of them is not known yet
        with closing(as_generator(self.epoch())) as batches:
            first = next(batches, None)
        if first is None:
            raise DataError("map: the feed gives no batch")
        self.image_shape, self.dtype = first.x.shape[1:], first.x.dtype

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        with closing(as_generator(self._feed.epoch(number, start))) as batches:
            for index, batch in enumerate(batches, start):
                yield self._changed(batch, number, index)

    def _changed(self, batch: Batch, number: int, index: int) -> Batch:
        drawn = []
        if self._draws:
            sequence = np.random.SeedSequence(self._seed, spawn_key=(_MAPPED, number, index))
            drawn = [np.random.Generator(np.random.PCG64(sequence))]
        made = self._function(batch.x, batch.y, *drawn)
        if not isinstance(made, (tuple, list)) or len(made) != 2:
            raise DataError(
                f"map: the function returned {show(made)}; return (x, y), without weights"
            )
        x, y = map(np.asarray, made)
        if len(x) != len(y):
            raise DataError(f"map: the function made {len(x)} samples and {len(y)} targets")
        if batch.weight is not None and len(y) != len(batch.y):
            raise DataError("map: the function changed the number of samples, which have weights")
        if batch.shift is not None and (x.dtype != np.uint8 or len(x) != len(batch.x)):
            raise DataError(
                "map: the colours that the feed adds to uint8 images cannot be added to what the "
                "function made; use an Augment without colour"
            )
        return replace(batch, x=x, y=y)


def as_generator(batches: Iterator[Batch]) -> Generator[Batch]:
    """`batches` as a generator, which can be closed."""
    yield from batches


class ArrayFeed(Feed):
    """Batches of arrays x (N, …) and y (N, …) in memory, by default in another order each epoch.

    `weights` (N,) are those of `Batch`. The order depends on (seed, epoch) alone. `drop_last`
    leaves out a last batch that is smaller.
    Raises `DataError` where the lengths differ and `SettingError` for settings out of range.
    """

    def __init__(
        self,
        x: NDArray[Any],
        y: NDArray[Any],
        batch_size: int = 32,
        *,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        class_names: tuple[str, ...] = (),
        weights: NDArray[Any] | None = None,
    ) -> None:
        for name, array in (("x", x), ("y", y)):
            if (
                not isinstance(array, np.ndarray)
                or not array.ndim
                or array.dtype.kind not in "biuf"
            ):
                raise DataError(f"{name} is {show(array)}; pass an array (N, …) of numbers")
        if len(x) != len(y):
            raise DataError(f"{len(x)} inputs and {len(y)} targets; there must be one an input")
        check_batch_size(batch_size)
        self._x, self.targets = x, y
        self._weights = None if weights is None else sample_weights("weights", weights, len(x))
        self._shuffle, self._seed = flag("shuffle", shuffle), whole("seed", seed, low=0)
        self.batch_size = batch_size
        self.count = len(x) - len(x) % batch_size if drop_last else len(x)
        self.image_shape, self.dtype = x.shape[1:], x.dtype
        self.class_names = class_names

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        check_position(number, start)
        order = None
        if self._shuffle:
            order = permutation(len(self._x), self._seed, _STREAM, number)
        return self._cut(order, start)

    def _cut(self, order: NDArray[np.intp] | None, start: int) -> Iterator[Batch]:
        assert self.targets is not None
        for first in range(start * self.batch_size, self.count, self.batch_size):
            stop = min(first + self.batch_size, self.count)
            rows = slice(first, stop) if order is None else order[first:stop]
            weights = None if self._weights is None else self._weights[rows]
            yield Batch(self._x[rows], self.targets[rows], weight=weights)


def sample_weights(name: str, value: Any, count: int) -> NDArray[Any]:
    """`value` as an array (count,) of weights; DataError where it is none."""
    weights = np.asarray(value)
    if weights.dtype.kind not in "biuf" or weights.shape not in ((count,), (count, 1)):
        raise DataError(
            f"{name} is {show(weights)} for {count} samples; pass one number a sample, (N,)"
        )
    if not np.isfinite(weights).all():
        raise DataError(f"{name} has a value that is not finite; use numbers")
    return weights.reshape(count)


def batches(
    x: NDArray[Any],
    y: NDArray[Any],
    batch_size: int,
    *,
    shuffle: bool = True,
    seed: int = 0,
    epoch: int = 0,
    drop_last: bool = False,
    start: int = 0,
    normalise: Normalise | None = None,
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Iterate over (x, y) in batches along the first axis.

    x and y: arrays of one length N. uint8 images become float32 by `normalise` (by default, from
    0 to 1); other element types are passed on as they are. The order of an epoch depends on seed
    and epoch alone, so `start` (batches already used) resumes in the middle of one exactly.
    The last batch may be smaller; `drop_last` leaves it out.

    Raises, at the call, `DataError` where lengths differ and `SettingError` for settings outside
    their range.
    """
    feed = ArrayFeed(x, y, batch_size, shuffle=shuffle, seed=seed, drop_last=drop_last)
    if x.dtype == np.uint8 and normalise is None:
        normalise = Normalise()
    return _normalised(feed.epoch(epoch, start), normalise)


def batch_count(count: int, batch_size: int, *, drop_last: bool = False) -> int:
    """Batches in an epoch over `count` images."""
    count, batch_size = whole("count", count, low=0), whole("batch_size", batch_size)
    return count // batch_size if drop_last else -(-count // batch_size)


def _normalised(
    feed: Iterator[Batch], normalise: Normalise | None
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    for batch in feed:
        yield (batch.x if normalise is None else normalise(batch.x)), batch.y


def check_batch_size(size: int) -> None:
    """Refuse a batch size that is no whole number, or below 1."""
    whole("batch size", size)


def check_position(epoch: int, start: int) -> None:
    """Refuse a place in the data before its beginning."""
    whole("start", start, low=0)
    whole("epoch", epoch, low=0)
