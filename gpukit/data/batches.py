"""Splits arrays into batches, in an order determined by (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukit.core.config import whole
from gpukit.data.feed import ArrayFeed, Batch
from gpukit.data.normalise import Normalise


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
