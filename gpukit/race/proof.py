"""Whether an implementation computes its primitive: held to the definition in float64.

Each is called twice on the same memory, with other numbers the second time, and the second result
counts: an earlier result, or what the first call left behind, is seen. (A single flag may be right
by chance, so both count.) The bounds are those to which `gpukit kernels check` holds kernels, of
the precision that an implementation says it has.

Every timed run finds other numbers in one stretch of each argument, and so does one run more, whose
result is held to the definition again: who gives back what it remembers is seen there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from gpukit.device import Device, device_of, to_host
from gpukit.dispatch.declaration import Problem
from gpukit.dispatch.precision import FULL, Precision
from gpukit.dispatch.primitive import registry
from gpukit.primitives.normalisation import lrn
from gpukit.verify.compare import problem as difference

SEEDS = (1, 2)  # of the first and the second call
# Bytes of an intermediate array of the definition, in float64, above which it goes image by image.
_MOST_BYTES = 1 << 28
_PIECE = 1 << 22  # elements of a result that are compared at a time
_STRETCH = 32  # an argument's share that changes before each timed run: one in so many elements

Call = Callable[..., Any]


class Proof:
    """A problem with its arrays on a device, and what must come out.

    `check` on the first numbers, and after `fill` on the second; then `change` before each timed
    run, whose settings are `settings`; `settle` before `last`. `viewed`: whether a result of the
    last call lies in the memory of an argument, where nothing moves.
    """

    def __init__(self, problem: Problem, device: Device) -> None:
        self.problem = problem
        self.device = device
        self._host = problem.arrays(SEEDS[0])
        self.arrays = [device.asarray(a.copy()) for a in self._host]
        self._wanted: list[np.ndarray] = []
        self._normal: np.ndarray | None = None
        self.viewed = False
        self.settings = dict(problem.settings)
        self._settled = self.settings
        self._random = np.random.default_rng(SEEDS[1])
        self._changed: list[slice] = []
        if problem.written == 1:
            self._define()

    def fill(self) -> None:
        """Put the second numbers into the arrays, and compute what comes of them."""
        self._host = []  # before there are others: both may not fit
        self._host = self.problem.arrays(SEEDS[1])
        self._put()
        self._define()

    def check(self, call: Call, precision: Precision = FULL) -> str:
        """What is wrong with a call; empty if nothing is.

        On the first numbers a result is compared only where it is a single flag.
        """
        if self.problem.in_place:
            self._put()
        failure, results = self._failure(call)
        failure = failure or self._spoiled()
        return failure or (self.compare(results, precision) if self._wanted else "")

    def change(self) -> None:
        """Put other numbers into a stretch of each argument, elsewhere than the last time.

        They are the argument's own, from another place; random numbers go a step on.
        """
        for array, host, where in zip(self.arrays, self._host, self._changed):
            array.reshape(-1)[where] = self.device.asarray(host.reshape(-1)[where])
        self._changed = []
        for array, host in zip(self.arrays, self._host):
            where, numbers = _others(host, self._random)
            array.reshape(-1)[where] = self.device.asarray(numbers)
            self._changed.append(where)
        self.settings = _next(self.settings)

    def settle(self) -> None:
        """Compute what must come of the second numbers, changed once more."""
        self._wanted, self._normal = [], None
        for host in self._host:
            where, numbers = _others(host, self._random)
            host.reshape(-1)[where] = np.inf if self.problem.primitive == "all_finite" else numbers
        self._settled = _next(self.settings)
        self._define()

    def last(self, call: Call, clock: Any, precision: Precision = FULL) -> str:
        """What is wrong with one more turn like those that were timed; empty if nothing is."""
        kept: deque[Any] = deque(maxlen=2)
        states = [self.change, self._put]

        def before() -> None:
            states[0]()
            del states[:-1]

        def turn(*_: Any, **__: Any) -> Any:
            while len(kept) < 2:
                clock.seconds(lambda: kept.append(call(*self.arrays, **self.settings)), before)
            return kept[-1]

        failure, results = self._failure(turn)
        if not failure and not self.problem.in_place and _one_memory(*kept):
            failure = "its result lies in the memory of the one before, which was still held"
        return failure or self._spoiled() or self.compare(results, precision)

    def compare(self, results: list[np.ndarray | None], precision: Precision = FULL) -> str:
        """What is wrong with results on the second numbers; None stands for one not compared."""
        if len(results) != len(self._wanted):
            return f"{len(results)} results, by definition {len(self._wanted)}"
        made = self.problem
        for i, (mine, wanted) in enumerate(zip(results, self._wanted)):
            if mine is None:
                continue
            # The definition was given float64 for the call's float32.
            dtype = np.dtype(np.float32) if wanted.dtype == np.float64 else wanted.dtype
            if mine.dtype != dtype:
                return f"result {i} is {mine.dtype}, by definition {dtype}"
            if i == 1 and self._normal is not None and mine.shape == wanted.shape:
                # Roundings may choose among cells that are as good as equal.
                mine, wanted = _at(mine, self._normal, made), self._wanted[0]
            scale = made.scales[i] if made.scales else made.scale
            for name, part, of in _pieces(f"result {i}", mine, wanted):
                found = difference(name, part, of, made.exact, made.length, scale, precision)
                if found:
                    return found
        return ""

    def _put(self) -> None:
        for array, host in zip(self.arrays, self._host):
            array[...] = self.device.asarray(host)
        self._changed = []
        self.settings = self._settled

    def _define(self) -> None:
        self._wanted = definition(replace(self.problem, settings=self._settled), self._host)
        if self.problem.primitive == "bias_relu_lrn_pool":
            x, bias = map(_wide, self._host)
            settings = self.problem.settings
            self._normal = lrn.reference(np.maximum(x + bias, 0), response=settings["response"])

    def _spoiled(self) -> str:
        """Which argument a call wrote to, if any."""
        for i, (array, host) in enumerate(zip(self.arrays, self._host)):
            if i not in self.problem.in_place and not np.array_equal(to_host(array), host):
                self._put()
                return f"it wrote to argument {i}"
        return ""

    def _failure(self, call: Call) -> tuple[str, list[np.ndarray | None]]:
        try:
            returned = call(*self.arrays, **self.settings)
            results = as_list(returned)
            failure = self._kind(returned, results)
            if failure:
                return failure, []
            if self.problem.in_place:
                results = [self.arrays[i] for i in self.problem.in_place]
            elif self.problem.moves:
                self.viewed = any(np.may_share_memory(r, a) for r in results for a in self.arrays)
            self.device.synchronize()
            return "", [to_host(r) for r in results]
        except (Exception, SystemExit) as error:
            # Whatever a plug-in raises is its own fault, not the race's.
            return f"{type(error).__name__}: {error}", []

    def _kind(self, returned: Any, results: list[Any]) -> str:
        """What is wrong with the types of a call's results."""
        if self.problem.in_place:
            return "" if returned is None else f"it returned {_article(returned)}, not None"
        here = type(self.arrays[0])
        for i, result in enumerate(results):
            if type(result) is not here:
                return f"result {i} is {_article(result)}, by definition {here.__name__}"
            if device_of(result) is not self.device:
                return f"result {i} is on {device_of(result)}, its arguments on {self.device}"
        if isinstance(returned, tuple) and len(returned) == 1:
            return "a tuple of one result, by definition the result itself"
        return ""


def as_list(results: Any) -> list[Any]:
    """A primitive's results, also where it has only one."""
    return list(results) if isinstance(results, tuple) else [results]


def _article(value: Any) -> str:
    return f"a {type(value).__module__}.{type(value).__qualname__}".replace("builtins.", "")


def _others(host: np.ndarray, random: np.random.Generator) -> tuple[slice, np.ndarray]:
    """A stretch in the second quarter of an argument, and its own numbers to put there."""
    size, quarter = host.size, max(host.size // 4, 1)
    length = max(size // _STRETCH, 1)
    flat = host.reshape(-1)
    if host.ndim == 4 and host.dtype.kind != "f":
        # A cell of a window may be padding elsewhere: one pixel's channels, turned round.
        length = host.shape[3]
        pixel = (size // 4 + int(random.integers(quarter))) // length * length
        return slice(pixel, pixel + length), flat[pixel : pixel + length][::-1].copy()
    start = size // 4 + int(random.integers(quarter))
    source = size // 2 + int(random.integers(quarter)) if size > 1 else 0
    return slice(start, start + length), flat[source : source + length].copy()


def _next(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of the next step of training, where random numbers depend on it."""
    return settings | {"step": settings["step"] + 1} if "step" in settings else settings


def _one_memory(earlier: Any, later: Any) -> bool:
    return any(np.may_share_memory(a, b) for a in as_list(earlier) for b in as_list(later))


def _pieces(
    name: str, mine: np.ndarray, wanted: np.ndarray
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Results to compare: whole where they are small or their shapes differ."""
    if mine.shape != wanted.shape or mine.size <= _PIECE:
        yield name, mine, wanted
        return
    mine, wanted = mine.reshape(-1), wanted.reshape(-1)
    for first in range(0, mine.size, _PIECE):
        part = slice(first, first + _PIECE)
        yield f"{name}, flat from element {first}", mine[part], wanted[part]


def definition(problem: Problem, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """The definition's results in float64, computed a few images at a time."""
    function = registry[problem.primitive].reference
    # An update goes parameter by parameter.
    batched = tuple(range(len(arrays))) if problem.in_place else problem.by_image or problem.summed
    images, step = (problem.sizes[0], images_at_once(problem)) if batched else (1, 1)
    found: list[list[np.ndarray]] = []
    for first in range(0, images, step):
        part = slice(first, min(first + step, images))
        some = [_wide(a[part]) if i in batched else _wide(a) for i, a in enumerate(arrays)]
        settings = dict(problem.settings)
        if "dtype" in settings:
            settings["dtype"] = np.float64
        if batched and "input_shape" in settings:
            settings["input_shape"] = (part.stop - first, *settings["input_shape"][1:])
        results = as_list(function(*problem.passed(some), **settings))
        found.append([some[i] for i in problem.in_place] or results)
    if problem.summed:
        return [sum(ranges[1:], ranges[0]) for ranges in zip(*found)]
    return found[0] if len(found) == 1 else [np.concatenate(ranges) for ranges in zip(*found)]


def images_at_once(problem: Problem) -> int:
    """How many the definition takes where it goes image by image."""
    return max(1, _MOST_BYTES * problem.sizes[0] // max(problem.bytes * 2, 1))


def _at(index: np.ndarray, normal: np.ndarray, problem: Problem) -> np.ndarray:
    """The values in the cells that a pooling's index names; NaN where it names none."""
    window = problem.settings["window"]
    padded = np.pad(normal, ((0, 0), *window.padding, (0, 0)), constant_values=np.nan)
    found = np.full(index.shape, np.nan, np.float32)
    for cell, (_, _, tap) in enumerate(window.taps(index.shape[1:3])):
        np.copyto(found, padded[tap], where=index == cell)
    return found


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype.kind == "f" else array
