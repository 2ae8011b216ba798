"""Cuts arrays into batches, in an order that (seed, epoch) fixes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukit.data.normalise import Normalise
from gpukit.data.order import permutation
from gpukit.errors import DataError, SettingError

_STREAM = 0


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
    if len(x) != len(y):
        raise DataError(f"{len(x)} inputs and {len(y)} targets; there must be one an input")
    if batch_size < 1:
        raise SettingError(f"batch size {batch_size}: use 1 or more")
    if start < 0 or epoch < 0:
        raise SettingError(f"start={start}, epoch={epoch}: use 0 or more")
    order = permutation(len(x), seed, _STREAM, epoch) if shuffle else None
    if x.dtype == np.uint8 and normalise is None:
        normalise = Normalise()
    stop = len(x) - len(x) % batch_size if drop_last else len(x)
    starts = range(start * batch_size, stop, batch_size)
    return _cut(x, y, batch_size, starts, order, normalise)


def batch_count(count: int, batch_size: int, *, drop_last: bool = False) -> int:
    """Batches in an epoch over `count` images."""
    return count // batch_size if drop_last else -(-count // batch_size)


def _cut(
    x: NDArray[Any],
    y: NDArray[Any],
    size: int,
    starts: range,
    order: NDArray[np.intp] | None,
    normalise: Normalise | None,
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    for first in starts:
        if order is None:
            x_batch, y_batch = x[first : first + size], y[first : first + size]
        else:
            rows = order[first : first + size]
            x_batch, y_batch = x[rows], y[rows]
        yield (x_batch if normalise is None else normalise(x_batch)), y_batch
