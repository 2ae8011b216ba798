"""The feeds that `fit`, `evaluate` and `predict` take batches from, of what users pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gpukit.core.config import number, show, whole
from gpukit.data.adapt import ClassWeighted, Limited, adapted, is_array, is_batches
from gpukit.data.feed import ArrayFeed, Feed, sample_weights
from gpukit.errors import DataError, SettingError
from gpukit.graph.network import as_array


def feeds_of(
    x: Any,
    y: Any,
    batch_size: int | None,
    shuffle: bool,
    seed: int,
    validation_split: float,
    validation_data: Any,
    steps: int | None,
    validation_steps: int | None,
    validation_size: int | None = None,
    weights: Any = None,
) -> tuple[Feed, Feed | None]:
    """The feeds to train on and to validate on, of arrays or as given."""
    size = whole("batch_size", 32 if batch_size is None else batch_size)
    if validation_size is not None:
        validation_size = whole("validation_batch_size", validation_size)
    feed = _given("fit", x, y, size, steps, weights, shuffle=shuffle, seed=seed, training=True)
    validation: Feed | None = None
    if feed is not None:
        if validation_split and validation_data is None:
            raise SettingError(
                "fit: validation_split takes a part of arrays; of a feed, give validation_data"
            )
    else:
        x, y = as_arrays(x, y)
        split = 0.0 if validation_data is not None else validation_split
        first = _split_at(len(x), split)
        own = end = None
        if weights is not None:
            weights = sample_weights("sample_weight", weights, len(x))
            own, end = weights[:first], weights[first:]
        arrays = ArrayFeed(x[:first], y[:first], size, shuffle=shuffle, seed=seed, weights=own)
        feed = limited(arrays, steps)
        if split:
            size = validation_size or size
            validation = ArrayFeed(x[first:], y[first:], size, shuffle=False, weights=end)
    if validation_data is not None:
        pair = (
            "fit: validation_data is a pair of inputs and targets, (x, y), or (x, y, weights), or "
            "gives batches"
        )
        given, y, w = validation_data, None, None
        if isinstance(given, tuple) or (isinstance(given, list) and not is_batches(given)):
            if len(given) not in (2, 3):
                raise SettingError(pair)
            given, y, w = (*given, None)[:3]
        elif is_array(given):
            raise SettingError(pair)
        validation = as_feed(
            "validation_data", given, y, validation_size or feed.batch_size, validation_steps, w
        )
    elif validation is not None:
        validation = limited(validation, validation_steps)
    else:
        for name, value in (
            ("validation_steps", validation_steps),
            ("validation_batch_size", validation_size),
        ):
            if value is not None:
                raise SettingError(f"fit: {name} is for validation_data, of which there are none")
    return feed, validation


def _given(
    what: str, x: Any, y: Any, size: int, steps: int | None, weights: Any = None, **how: Any
) -> Feed | None:
    """The feed that x is or gives, `steps` batches an epoch of it; None where x is an array."""
    steps = None if steps is None else whole("steps", steps)
    feed = adapted(what, x, steps=steps, batch_size=size, **how)
    if feed is not None and weights is not None:
        raise SettingError(
            f"{what}: {type(x).__name__} brings weights of samples itself: give batches "
            "(x, y, weights)"
        )
    if feed is not None and y is not None:
        raise SettingError(
            f"{what}: {type(x).__name__} brings its targets: a feed, or what gives batches, takes "
            "no y with it"
        )
    if feed is not None and not feed.labelled and how.get("labelled", True):
        raise DataError(f"{what}: the feed has no labels; only predict takes it")
    return None if feed is None else limited(feed, steps)


def limited(feed: Feed, steps: int | None) -> Feed:
    return feed if steps is None or steps == feed.steps else Limited(feed, steps)


def as_feed(
    what: str,
    x: Any,
    y: Any,
    batch_size: int | None,
    steps: int | None,
    weights: Any = None,
) -> Feed:
    """What x is or gives where that is a feed, else the arrays x and y in their order."""
    size = whole("batch_size", 256 if batch_size is None else batch_size)
    feed = _given(what, x, y, size, steps, weights)
    if feed is None:
        feed = limited(ArrayFeed(*as_arrays(x, y), size, shuffle=False, weights=weights), steps)
    return feed


def labelless(what: str, x: Any, batch_size: int | None, steps: int | None) -> Feed:
    """`as_feed` for samples x without targets."""
    size = whole("batch_size", 256 if batch_size is None else batch_size)
    feed = _given(what, x, None, size, steps, labelled=False)
    if feed is None:
        x = as_array("x", x)
        feed = limited(ArrayFeed(x, np.zeros(len(x), np.int64), size, shuffle=False), steps)
    return feed


def as_arrays(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets as host arrays of one length."""
    x, y = as_array("x", x), as_array("y", y)
    if y.ndim == 2 and y.shape[1] == 1 and y.dtype.kind in "iu":
        y = y[:, 0]
    if len(x) != len(y):
        raise DataError(f"x has {len(x)} samples and y {len(y)}; there must be one target a sample")
    return x, y


def _split_at(count: int, fraction: float) -> int:
    """Where Keras's validation split begins: the end of the data, the same in every epoch."""
    first = int(count * (1 - fraction))
    if fraction and first in (0, count):
        raise DataError(
            f"validation_split={fraction} of {count} samples leaves a part empty; use more data"
        )
    return first


def class_weighted(feed: Feed, weights: Any, outputs: int) -> Feed:
    """`feed` with samples weighted by class, of a model of so many outputs."""
    classes = max(outputs, 2)
    if not isinstance(weights, Mapping):
        raise SettingError(f"class_weight={show(weights)}: use a dict of weights by class number")
    table = {
        whole("a class of class_weight", c, low=0): number("class_weight", w, low=0)
        for c, w in weights.items()
    }
    if table and max(table) >= classes:
        raise SettingError(
            f"class_weight names class {max(table)}; classes are numbered 0 to {classes - 1}"
        )
    return ClassWeighted(feed, table, classes)
