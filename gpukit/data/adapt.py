"""Makes feeds of what programs and other libraries give batches with.

Objects are told apart by what they can do, so no other library is imported.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukit.core.config import show, whole
from gpukit.data.feed import Batch, Feed, Wrapped, as_generator, check_position, sample_weights
from gpukit.data.order import permutation
from gpukit.errors import CheckpointError, DataError

_STREAM = 0
_EXPECTED = (
    "pass arrays x and y, or one of these alone: a data.Feed, an object with a length whose [i] "
    "is batch i as (x, y), a PyTorch DataLoader or Dataset, a list of batches (x, y), or a "
    "generator of them with its number of steps"
)


def adapted(
    what: str,
    source: Any,
    *,
    steps: int | None = None,
    batch_size: int = 32,
    shuffle: bool = False,
    seed: int = 0,
    labelled: bool = True,
    training: bool = False,
) -> Feed | None:
    """A feed of the batches that `source` gives; None where it is an array or a list of numbers.

    A feed is returned as it is. `shuffle` draws the order of what can be indexed, by (seed,
    epoch); `batch_size` is for PyTorch Datasets, which give samples. A generator, and what has no
    length, need `steps`, the batches of an epoch. Batches need no y unless `labelled`.

    Raises `DataError` for anything else, before a batch is used. `what` begins messages.
    """
    if isinstance(source, Feed):
        return source
    if is_array(source) or (isinstance(source, (list, tuple)) and not is_batches(source)):
        return None
    length = _length(source)
    indexed = hasattr(type(source), "__getitem__") and length is not None
    iterable = hasattr(type(source), "__iter__")
    samples = _is_torch_dataset(source)
    if isinstance(source, (str, bytes, dict, set)) or not (indexed or iterable):
        raise DataError(f"{what}: cannot take batches of {show(source)}; {_EXPECTED}")
    if samples and not indexed:
        raise DataError(
            f"{what}: {type(source).__name__} gives samples without an order; pass "
            "DataLoader(it, batch_size=…), or a data.Feed"
        )
    if length == 0:
        raise DataError(f"{what}: {type(source).__name__} is empty; {_EXPECTED}")
    if indexed:
        first = source[0]
        if samples or _is_sample(first):
            return _Samples(what, source, batch_size, shuffle, seed)
        return _Sequence(what, source, first, shuffle, seed, labelled)
    size = steps or length
    if size is None:
        name = {"fit": "steps_per_epoch", "validation_data": "validation_steps"}.get(what, "steps")
        raise DataError(
            f"{what}: {type(source).__name__} has no length, so an epoch of it has no end; give "
            f"{name}=…, or a data.Feed"
        )
    return _Stream(what, source, size, labelled, endless=training and steps is not None)


def is_batches(value: Any) -> bool:
    """Whether a list or tuple holds batches, tuples (x, y) of arrays, and no numbers or arrays."""
    first = value[0] if value else None
    return isinstance(first, tuple) and bool(first) and is_array(first[0])


class Limited(Wrapped):
    """`steps` batches of `feed` an epoch, each epoch from where the one before it stopped."""

    def __init__(self, feed: Feed, steps: int) -> None:
        super().__init__(feed)
        self._steps = whole("steps", steps)
        self.count = steps * feed.batch_size

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        check_position(number, start)
        return self._go_on(number * self._steps + start, self._steps - start)

    def _go_on(self, at: int, left: int) -> Iterator[Batch]:
        while left > 0:
            over, first = divmod(at, self._feed.steps)
            before = left
            with closing(as_generator(self._feed.epoch(over, first))) as batches:
                for batch in islice(batches, left):
                    at, left = at + 1, left - 1
                    yield batch
            if left == before:
                raise DataError(f"an epoch of the feed has no batch {first}; it said that it has")

    def config(self) -> dict[str, Any]:
        return {**self._feed.config(), "steps_per_epoch": self._steps}

    def take_up(self, config: dict[str, Any]) -> None:
        if config.get("steps_per_epoch") != self._steps:
            raise CheckpointError(
                f"training began with steps_per_epoch={config.get('steps_per_epoch')}, not "
                f"{self._steps}; use that, or begin anew"
            )
        self._feed.take_up({k: v for k, v in config.items() if k != "steps_per_epoch"})


class ClassWeighted(Wrapped):
    """The batches of `feed`, each sample weighted by its class: `weights` by number, else 1."""

    def __init__(self, feed: Feed, weights: Mapping[int, float], classes: int) -> None:
        super().__init__(feed)
        self._table = np.ones(classes)
        for number, weight in weights.items():
            self._table[number] = weight

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        return map(self._weighted, self._feed.epoch(number, start))

    def _weighted(self, batch: Batch) -> Batch:
        if batch.weight is not None:
            raise DataError("class_weight beside weights of samples; give one of them")
        y = batch.y
        if y.ndim > 2:
            raise DataError(f"class_weight needs a class for each sample; y is {y.shape}")
        numbers = y.argmax(axis=1) if y.ndim == 2 and y.shape[1] > 1 else y.reshape(-1)
        if numbers.dtype.kind == "f" and (numbers % 1).any():
            raise DataError("class_weight needs class numbers; y has fractions: use sample_weight")
        numbers = numbers.astype(np.int64)
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(self._table):
            raise DataError(
                f"class_weight needs class numbers 0 to {len(self._table) - 1}; y has "
                f"{numbers.min()} to {numbers.max()}"
            )
        return replace(batch, weight=self._table[numbers])


class _Sequence(Feed):
    """Batches by number, of an object with a length: a list, or Keras's Sequence or PyDataset.

    Its `on_epoch_begin` and `on_epoch_end` are called where it has them.
    """

    def __init__(
        self, what: str, source: Any, first: Any, shuffle: bool, seed: int, labelled: bool
    ) -> None:
        self._what, self._source, self._labelled = what, source, labelled
        self._shuffle, self._seed = shuffle, seed
        self._length = len(source)
        _describe(self, self._batch(0, first), self._length)

    def _batch(self, index: int, item: Any) -> Batch:
        where = f"{self._what}: batch {index} of {type(self._source).__name__}"
        return _batch_of(where, item, self._labelled)

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        check_position(number, start)
        if start == 0:
            getattr(self._source, "on_epoch_begin", _nothing)()
        order = np.arange(self._length)
        if self._shuffle:
            order = permutation(self._length, self._seed, _STREAM, number)
        for index in order[start:].tolist():
            yield self._batch(index, self._source[index])
        getattr(self._source, "on_epoch_end", _nothing)()

    def config(self) -> dict[str, Any]:
        return {"batches": self._length, "seed": self._seed, "shuffle": self._shuffle}

    def take_up(self, config: dict[str, Any]) -> None:
        _same(self.config(), config)


class _Samples(Feed):
    """Batches of the samples (x, y) of an object with a length, such as a PyTorch Dataset."""

    def __init__(self, what: str, source: Any, batch_size: int, shuffle: bool, seed: int) -> None:
        self._what, self._source = what, source
        self._shuffle, self._seed = shuffle, seed
        self.count, self.batch_size = len(source), whole("batch_size", batch_size)
        first = self._batch([0])
        self.image_shape, self.dtype = first.x.shape[1:], first.x.dtype

    def _batch(self, indices: list[int]) -> Batch:
        where = f"{self._what}: {type(self._source).__name__}"
        columns: tuple[list[Any], list[Any]] = [], []
        for index in indices:
            item = self._source[index]
            if not isinstance(item, (list, tuple)) or len(item) != 2:
                raise DataError(f"{where}[{index}] is {show(item)}; give a sample (x, y)")
            for column, value in zip(columns, item, strict=True):
                column.append(_array(f"{where}[{index}]", value))
        shapes = {array.shape for array in columns[0]}
        if len(shapes) > 1:
            raise DataError(
                f"{where}: samples of a batch have shapes {show(sorted(shapes))}; they must agree"
            )
        return _batch_of(where, (np.stack(columns[0]), np.stack(columns[1])), True)

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        check_position(number, start)
        order = np.arange(self.count)
        if self._shuffle:
            order = permutation(self.count, self._seed, _STREAM, number)
        for first in range(start * self.batch_size, self.count, self.batch_size):
            yield self._batch(order[first : first + self.batch_size].tolist())

    def config(self) -> dict[str, Any]:
        sizes = {"samples": self.count, "batch_size": self.batch_size}
        return {**sizes, "seed": self._seed, "shuffle": self._shuffle}

    def take_up(self, config: dict[str, Any]) -> None:
        _same(self.config(), config)


class _Stream(Feed):
    """Batches in an order of their own: a generator's, or a PyTorch DataLoader's.

    Each epoch iterates anew where that is possible and not `endless`; else it goes on where the
    one before it stopped, and cannot be taken up in its middle by another process.
    """

    def __init__(
        self, what: str, source: Iterable[Any], steps: int, labelled: bool, endless: bool
    ) -> None:
        self._what, self._source, self._labelled = what, source, labelled
        self._size = whole("steps", steps)
        iterator = iter(source)
        self._goes_on = endless or iterator is source
        if endless and iterator is not source:
            iterator = _repeated(source, iterator)
        try:
            first = next(iterator)
        except StopIteration:
            raise DataError(f"{what}: {self._name} gives no batch") from None
        # The batch that was looked at comes first in the epoch that comes first.
        self._iterator: Iterator[Any] | None = chain([first], iterator)
        _describe(self, self._batch(0, first), self._size)

    @property
    def _name(self) -> str:
        return type(self._source).__name__

    def _batch(self, number: int, item: Any) -> Batch:
        return _batch_of(f"{self._what}: batch {number} of {self._name}", item, self._labelled)

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        check_position(number, start)
        if start and self._goes_on:
            raise CheckpointError(
                f"{self._what}: epoch {number + 1} stopped after {start} batches, and "
                f"{self._name} cannot return there; resume from the end of an epoch, or train on "
                "a data.Feed"
            )
        iterator = self._iterator or iter(self._source)
        if not self._goes_on:
            self._iterator = None
        if start:
            warnings.warn(
                f"{self._what}: skipped {start} batches of {self._name} to resume; if its order "
                "is random, these are not those that were trained on",
                stacklevel=2,
            )
        return self._cut(islice(iterator, start, self._size), start)

    def _cut(self, items: Iterator[Any], given: int) -> Iterator[Batch]:
        for item in items:
            yield self._batch(given, item)
            given += 1
        if given < self._size:
            raise DataError(
                f"{self._what}: {self._name} ended after {given} of {self._size} batches of an "
                "epoch; give fewer steps or epochs, or a data.Feed"
            )

    def config(self) -> dict[str, Any]:
        return {"batches": self._size}

    def take_up(self, config: dict[str, Any]) -> None:
        _same(self.config(), config)


def _repeated(source: Iterable[Any], iterator: Iterator[Any]) -> Iterator[Any]:
    """The items of `iterator`, then those of `source` over and over, until it has none."""
    given = True
    while given:
        given = False
        for item in iterator:
            given = True
            yield item
        iterator = iter(source)


def _nothing() -> None:
    """What is called where an object has no method for it."""


def _describe(feed: Feed, first: Batch, steps: int) -> None:
    """Say of `feed` what its first batch shows."""
    feed.batch_size, feed.count = len(first.x), len(first.x) * steps
    feed.image_shape, feed.dtype = first.x.shape[1:], first.x.dtype
    shape = feed.image_shape
    if len(shape) == 3 and shape[0] in (1, 3) and shape[1] == shape[2] > 4:
        warnings.warn(
            f"batches of shape {first.x.shape} look like (N, C, H, W); gpukit takes (N, H, W, C): "
            "x.permute(0, 2, 3, 1)",
            stacklevel=4,
        )


def _same(here: dict[str, Any], config: dict[str, Any]) -> None:
    for name, value in here.items():
        if config.get(name) != value:
            raise CheckpointError(
                f"the data are not those that training began with: {name} is {value} instead of "
                f"{config.get(name)!r}; bring them back, or begin anew"
            )


def _batch_of(where: str, item: Any, labelled: bool) -> Batch:
    """A batch as a user's object gives it: (x, y), (x, y, weights of samples), or x alone where no
    targets are needed."""
    if is_array(item) and not labelled:
        item = (item,)
    if not isinstance(item, (list, tuple)) or len(item) not in ((2, 3) if labelled else (1, 2, 3)):
        raise DataError(f"{where} is {show(item)}; give a batch (x, y), both arrays (N, …)")
    x = _array(f"{where}: x", item[0])
    y = _array(f"{where}: y", item[1]) if labelled else np.zeros(x.shape[:1], np.int64)
    if not x.ndim or not y.ndim or not len(x) or len(x) != len(y):
        raise DataError(
            f"{where} has x {x.shape} and y {y.shape}; both need the batch's axis first, of the "
            "same length above 0"
        )
    if y.ndim == 2 and y.shape[1] == 1 and y.dtype.kind in "iu":
        y = y[:, 0]
    weights = None
    if len(item) == 3 and item[2] is not None:
        weights = sample_weights(f"{where}: weights", _array(f"{where}: w", item[2]), len(x))
    return Batch(x, y, weight=weights)


def _array(where: str, value: Any) -> NDArray[Any]:
    """`value`, an array of any library, as NumPy's."""
    if isinstance(value, (list, tuple)) and value and is_array(value[0]) and np.ndim(value[0]):
        raise DataError(f"{where} is a {type(value).__name__} of arrays; give one array (N, …)")
    for method in ("detach", "cpu"):  # a PyTorch tensor with gradients, or on a card
        value = getattr(value, method, lambda same=value: same)()
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{where} is no array ({error})") from None
    if array.dtype.kind not in "biuf":
        raise DataError(f"{where} is {show(value)}; give an array of numbers")
    return array


def is_array(value: Any) -> bool:
    """Whether `value` is an array of some library, by its protocols."""
    return hasattr(value, "__array__") or hasattr(value, "__cuda_array_interface__")


def _is_torch_dataset(source: Any) -> bool:
    names = {(c.__module__.partition(".")[0], c.__name__) for c in type(source).__mro__}
    return ("torch", "Dataset") in names


def _is_sample(item: Any) -> bool:
    """Whether an item is a sample (x, y), whose y is one number, rather than a batch."""
    if not isinstance(item, (list, tuple)) or len(item) != 2:
        return False
    return isinstance(item[1], int) or (is_array(item[1]) and np.ndim(item[1]) == 0)


def _length(source: Any) -> int | None:
    try:
        return len(source)
    except (TypeError, NotImplementedError):
        return None
