"""Cheats: implementations whose results are right only by luck, or by having seen them before.

| what it does | how it is shown |
|---|---|
| writes zeros or a constant | the result is one number, the definition's is not |
| writes only part | in two runs, what new memory was filled with is still in the result |
| depends on uninitialised memory | the result changes with what new memory was filled with |
| mutates an input | inputs are compared before and after |
| returns an earlier result | other data of the same shapes, or in the same arrays, give the same |
| works on another stream | its source names one (streams.py); on a card its results (on_card.py) |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gpukit import device as devices
from gpukit.backends.primitive import Primitive, registry
from gpukit.device import get_device, to_host
from gpukit.kernel_checks import streams, trial
from gpukit.kernel_checks.cases import Case
from gpukit.kernel_checks.coverage import Target
from gpukit.kernel_checks.limits import drawn, other_values

FILLINGS = (0x3F, 0xFF)  # of new memory: 0.75 in float32, small in float64; and NaN
TRIES = 40
LEAST = 6  # numbers in a result, for one to be judged by


def battery(target: Target, seed: int, number: int = 0) -> str:
    """In which way an implementation cheats; empty if it does not.

    `number` has no meaning here: one case is chosen that tells most.
    """
    if place := streams.named(target):
        return f"works on another stream than the current one: {place}"
    primitive = registry[target.primitive]
    chosen = _telling_case(target, primitive, seed)
    if chosen is None:
        return ""
    made, wanted, other, wanted_other = chosen
    try:
        found = _found(target, primitive, made, wanted, other, wanted_other)
    except Exception as error:  # a fault of the launcher's
        found = trial.fault(error, target)
    return f"{found} [{trial.describe(made)}]" if found else ""


Results = list[np.ndarray]


def _telling_case(
    target: Target, primitive: Primitive, seed: int
) -> tuple[Case, Results, Case, Results] | None:
    """A case and one with other data, and their results by definition, which differ."""
    for number in range(TRIES):
        made = drawn(target, seed, number)
        if made is None:
            return None
        other = other_values(made, number)
        wanted = trial.by_definition(primitive, made)
        wanted_other = trial.by_definition(primitive, other)
        if (
            any(w.size >= LEAST and not _is_constant(w) for w in wanted)
            and all(np.isfinite(w).all() for w in wanted if w.dtype.kind == "f")
            and any(not np.array_equal(a, b) for a, b in zip(wanted, wanted_other))
        ):
            return made, wanted, other, wanted_other
    return None


def _found(
    target: Target,
    primitive: Primitive,
    made: Case,
    wanted: Results,
    other: Case,
    wanted_other: Results,
) -> str:
    def call(arrays: list[Any]) -> list[Any]:
        results = primitive(*arrays, algo=target.algo, **made.settings)
        if results is None:  # it works in place
            return [a for a in trial.flat(arrays) if hasattr(a, "shape")]
        return list(results) if isinstance(results, tuple) else [results]

    in_place = primitive.reference(*_copies(made), **made.settings) is None
    with filling(FILLINGS[0]):
        arrays = _put(made)
        before = [np.array(to_host(a)) for a in trial.flat(arrays) if hasattr(a, "shape")]
        first = [np.array(to_host(r)) for r in call(arrays)]
        after = [to_host(a) for a in trial.flat(arrays) if hasattr(a, "shape")]
    if not in_place:
        for i, (old, new) in enumerate(zip(before, after)):
            changed = int((~_same(old, new)).sum())
            if changed:
                return (
                    f"mutates its input: {changed} of {old.size} elements of array {i} are others "
                    "after the call"
                )
    with filling(FILLINGS[1]):
        second = [np.array(to_host(r)) for r in call(_put(made))]
    for i, (a, b, definition) in enumerate(zip(first, second, wanted)):
        if a.shape != definition.shape:
            return ""  # wrong, which the cases say
        found = _of_memory(a, b) or _of_values(a, definition)
        if found:
            return found if len(first) == 1 else f"result {i}: {found}"
    if not in_place:
        return _of_the_past(call, made, other, wanted, wanted_other)
    return ""


def _of_memory(a: np.ndarray, b: np.ndarray) -> str:
    """What two runs show whose new memory was filled with different bytes."""
    left = _is_filled(a, FILLINGS[0]) & _is_filled(b, FILLINGS[1])
    with np.errstate(all="ignore"):
        differs = ~left & ~_same(a, b) & ~np.isclose(a, b, rtol=1e-3, atol=1e-6)
    if differs.any():
        where = _first(differs)
        return (
            f"depends on uninitialised memory: {int(differs.sum())} of {differs.size} elements of "
            f"its result change with what was there before, first {where}: {a[where]!r} or "
            f"{b[where]!r}"
        )
    if left.any():
        return (
            f"writes only part: {int(left.sum())} of {left.size} elements of its result keep what "
            f"was in memory, first {_first(left)}"
        )
    return ""


def _of_values(a: np.ndarray, definition: np.ndarray) -> str:
    if a.size >= LEAST and _is_constant(a) and not _is_constant(definition):
        value = a.reshape(-1)[0]
        what = "zeros" if value == 0 else f"the constant {value!r}"
        return f"writes {what} whatever its input is; by definition the result varies"
    nan = np.isnan(a) if a.dtype.kind == "f" else np.zeros(a.shape, bool)
    if nan.any():  # the definition's are finite
        return (
            f"depends on uninitialised memory: {int(nan.sum())} of {nan.size} elements of its "
            f"result are NaN, as shared memory is on emu until it is written, first {_first(nan)}"
        )
    return ""


def _of_the_past(
    call: Callable[[list[Any]], list[Any]],
    made: Case,
    other: Case,
    wanted: Results,
    wanted_other: Results,
) -> str:
    """What calls one after another show, with other data of the same shapes."""
    arrays = _put(made)
    kept = call(arrays)
    copies = [np.array(to_host(k)) for k in kept]
    again = call(_put(other))
    for old, new, copy, a, b in zip(kept, again, copies, wanted, wanted_other):
        if np.array_equal(a, b):
            continue
        if _same(to_host(new), copy).all():
            return "returns an earlier result: the same for other data of the same shapes"
        if np.shares_memory(to_host(old), to_host(new)):
            return "returns an earlier result's memory: a later call overwrites what it gave"
    for here, there in zip(trial.flat(arrays), trial.flat(other.arrays)):
        if hasattr(here, "shape"):
            to_host(here)[...] = there
    for new, copy, a, b in zip(call(arrays), copies, wanted, wanted_other):
        if not np.array_equal(a, b) and _same(to_host(new), copy).all():
            return "returns an earlier result: the same for other data in the same arrays"
    return ""


@contextmanager
def filling(byte: int) -> Iterator[None]:
    """Within the block, new memory on emu is full of `byte`."""
    before = devices.UNWRITTEN
    devices.UNWRITTEN = byte
    try:
        yield
    finally:
        devices.UNWRITTEN = before


def _copies(made: Case) -> list[Any]:
    def copy(value: Any) -> Any:
        if isinstance(value, list):
            return [copy(v) for v in value]
        return value.copy() if isinstance(value, np.ndarray) else value

    return [copy(a) for a in made.arrays]


def _put(made: Case) -> list[Any]:
    emu = get_device("emu")

    def put(value: Any) -> Any:
        if isinstance(value, list):
            return [put(v) for v in value]
        return emu.wrap(value) if isinstance(value, np.ndarray) else value

    return [put(a) for a in _copies(made)]


def _is_filled(array: np.ndarray, byte: int) -> np.ndarray:
    """Where an array's elements have this value in every byte."""
    plain = np.ascontiguousarray(array)
    cells = plain.view(np.uint8).reshape(*plain.shape, plain.dtype.itemsize)
    return (cells == byte).all(axis=-1)


def _is_constant(array: np.ndarray) -> bool:
    return array.size > 0 and bool((array == array.reshape(-1)[0]).all())


def _same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a == b) | ((a != a) & (b != b))


def _first(where: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(where)[0])
