"""Cheats: implementations whose results are right only by luck, or by having seen them before.

| what it does | how it is shown |
|---|---|
| writes zeros or a constant | the result is one number, the definition's is not |
| writes only part | in two runs, what new memory was filled with is still in the result |
| depends on uninitialised memory | the result changes with what new memory was filled with |
| mutates an input | inputs are compared before and after |
| returns an earlier result, or a part | other data of the same shapes, or in the same arrays |
| reaches only so many elements | a call of a usual layer's size is wrong |
| launches none of its kernels | the engine has seen none |
| works on another stream | its source names one (streams.py); on a card its results (card.py) |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from gpukit.device import emulated, get_device, to_host
from gpukit.dispatch.dice import Case
from gpukit.dispatch.primitive import Primitive, registry
from gpukit.verify import launch_log, run_case, streams
from gpukit.verify.cases import copies, flat, other_values, supported, usual
from gpukit.verify.compare import equal, first_at
from gpukit.verify.coverage import Target

FILLINGS = (0x3F, 0xFF)  # of new memory: 0.75 in float32, small in float64; and NaN
TRIES = 40
LEAST = 6  # numbers in a result, for one to be judged by
USUAL = 1e-3  # of a usual call's largest result: what is left out is further off
FEW = 8  # cases in which a kernel of a plug-in is to be launched


def battery(target: Target, seed: int, number: int = 0) -> str:
    """How an implementation cheats; empty if it does not.

    `number` has no meaning here: one case is chosen that tells most.
    """
    if place := streams.named(target):
        return f"works on another stream than the current one: {place}"
    primitive = registry[target.primitive]
    try:
        chosen = _telling_case(target, primitive, seed)
        if chosen is None:
            return _why_nothing_tells(target, primitive, seed)
        found = _found(target, primitive, *chosen)
        if found:
            return f"{found} [{run_case.describe(chosen[0])}]"
        return (
            _of_a_usual_call(target, primitive)
            or launch_log.too_much_shared(target)
            or _of_launches(target, primitive, seed)
        )
    except Exception as error:  # a fault of the launcher's, or of its `supports`
        return run_case.fault(error, target)


Results = list[np.ndarray]


def _telling_case(
    target: Target, primitive: Primitive, seed: int
) -> tuple[Case, Results, Case, Results] | None:
    """A case and one with other data, and their results by definition, which differ."""
    for number in range(TRIES):
        made = supported(target, seed, number)
        if made is None:
            return None
        other = other_values(made, number)
        wanted = run_case.by_definition(primitive, made)
        wanted_other = run_case.by_definition(primitive, other)
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
    def call(arrays: list[Any]) -> Results:
        return run_case.call(primitive, target.algo, made, arrays)

    in_place = primitive.reference(*copies(made.arrays), **made.settings) is None
    with filling(FILLINGS[0]):
        arrays = _put(made)
        before = [np.array(to_host(a)) for a in flat(arrays) if hasattr(a, "shape")]
        first = [np.array(r) for r in call(arrays)]
        after = [to_host(a) for a in flat(arrays) if hasattr(a, "shape")]
    if not in_place:
        for i, (old, new) in enumerate(zip(before, after)):
            changed = int((~equal(old, new)).sum())
            if changed:
                return (
                    f"mutates its input: {changed} of {old.size} elements of array {i} are others "
                    "after the call"
                )
    with filling(FILLINGS[1]):
        second = [np.array(r) for r in call(_put(made))]
    for i, (a, b, definition) in enumerate(zip(first, second, wanted)):
        if a.shape != definition.shape:
            return ""  # wrong, which the cases say
        found = _of_memory(a, b) or _of_values(a, definition)
        if found:
            return found if len(first) == 1 else f"result {i}: {found}"
    if not in_place:
        found = _of_the_past(call, made, other, wanted, wanted_other)
        if found:
            return found
    return _of_a_change(call, target, made, other)


def _of_memory(a: np.ndarray, b: np.ndarray) -> str:
    """What two runs show whose new memory was filled with different bytes."""
    left = _is_filled(a, FILLINGS[0]) & _is_filled(b, FILLINGS[1])
    with np.errstate(all="ignore"):
        differs = ~left & ~equal(a, b) & ~np.isclose(a, b, rtol=1e-3, atol=1e-6)
    if differs.any():
        where = first_at(differs)
        return (
            f"depends on uninitialised memory: {int(differs.sum())} of {differs.size} elements of "
            f"its result change with what was there before, first {where}: {a[where]!r} or "
            f"{b[where]!r}"
        )
    if left.any():
        return (
            f"writes only part: {int(left.sum())} of {left.size} elements of its result keep what "
            f"was in memory, first {first_at(left)}"
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
            f"result are NaN, as shared memory is on emu until it is written, first {first_at(nan)}"
        )
    return ""


def _of_the_past(
    call: Callable[[list[Any]], Results],
    made: Case,
    other: Case,
    wanted: Results,
    wanted_other: Results,
) -> str:
    """What calls one after another show, with other data of the same shapes."""
    arrays = _put(made)
    kept = call(arrays)
    copied = [np.array(k) for k in kept]
    again = call(_put(other))
    for old, new, copy, a, b in zip(kept, again, copied, wanted, wanted_other):
        if np.array_equal(a, b):
            continue
        if equal(new, copy).all():
            return "returns an earlier result: the same for other data of the same shapes"
        if np.shares_memory(old, new):
            return "returns an earlier result's memory: a later call overwrites what it gave"
    return ""


def _of_a_change(
    call: Callable[[list[Any]], Results], target: Target, made: Case, other: Case
) -> str:
    """What calls with the same arrays show, all of whose numbers are others, then one alone."""
    primitive = registry[target.primitive]
    arrays = _put(made)
    call(arrays)
    for what, changed in _changes(primitive, other):
        for here, there in zip(flat(arrays), flat(changed.arrays)):
            if hasattr(here, "shape"):
                to_host(here)[...] = there
        found = run_case.mismatch(target, replace(changed, scale=2 * changed.scale), call(arrays))
        if found:
            return f"returns an earlier result, or a part of one: {what} in place, {found}"
    return ""


def _changes(primitive: Primitive, made: Case) -> Iterator[tuple[str, Case]]:
    """The case; then, for each of its arrays, with one number doubled, with two exchanged.

    Only changes on which the definition's result depends.
    """
    yield "all data changed", made
    before = run_case.by_definition(primitive, made)
    for place, array in enumerate(flat(made.arrays)):
        if not isinstance(array, np.ndarray):
            continue
        for what, change in (("one number", _double), ("two numbers exchanged", _exchange)):
            for near in range(array.size // 2, array.size, max(array.size // TRIES, 1)):
                arrays = copies(made.arrays)
                if not change(flat(arrays)[place], near):
                    continue
                changed = replace(made, arrays=arrays)
                after = run_case.by_definition(primitive, changed)
                if not all(map(np.array_equal, before, after)):
                    yield f"{what} of array {place} changed", changed
                    break


def _double(array: np.ndarray, place: int) -> bool:
    """Double a number; False if that changes nothing."""
    where = np.unravel_index(place, array.shape)
    if array.dtype.kind != "f" or not np.isfinite(array[where]) or array[where] == 0:
        return False
    array[where] *= 2
    return True


def _exchange(array: np.ndarray, place: int) -> bool:
    """Exchange a number with the next one; False if they are the same."""
    here, there = (np.unravel_index(i % array.size, array.shape) for i in (place, place + 1))
    if array[here] == array[there]:
        return False
    array[here], array[there] = array[there], array[here]
    return True


def _of_a_usual_call(target: Target, primitive: Primitive) -> str:
    """What a call of a usual layer's size shows: a grid that ends before the arrays do."""
    made = usual(target)
    if not made.arrays:
        return ""
    results = run_case.call(primitive, target.algo, made, _put(made))
    for i, (ours, wanted) in enumerate(zip(results, run_case.by_definition(primitive, made))):
        allowed = max(USUAL, 2 * target.implementation.precision.roundoff)
        bound = allowed * np.abs(wanted).max(initial=0) if wanted.dtype.kind == "f" else 0
        with np.errstate(invalid="ignore"):
            right = equal(ours, wanted) | (np.abs(ours - wanted.astype(float)) <= bound)
        if not right.all():
            return (
                f"does not reach every element of a large array: result {i} is wrong at "
                f"{int((~right).sum())} of {right.size} places, first {first_at(~right)} "
                f"[{run_case.describe(made)}]"
            )
    return ""


def _of_launches(target: Target, primitive: Primitive, seed: int) -> str:
    """Whether a plug-in's own kernels did the work, in some of a few cases."""
    if not target.implementation.origin:
        return ""
    for number in range(FEW):
        made = supported(target, seed, number)
        if made is not None:
            run_case.call(primitive, target.algo, made, _put(made))
        if launch_log.has_launched(target):
            return ""
    return (
        "launches none of its kernels: what it returns is the work of NumPy, or of other "
        "implementations, and proves nothing about it"
    )


def _why_nothing_tells(target: Target, primitive: Primitive, seed: int) -> str:
    """Of a plug-in whose limits leave nothing to tell a cheat by, where others' do not."""
    if not target.implementation.origin:
        return ""
    default = Target(target.primitive, next(iter(primitive.implementations("cuda"))))
    if _telling_case(default, primitive, seed) is None:
        return ""
    return (
        f"no case within its limits (supports) has a result of {LEAST} numbers or more that "
        "depends on its arguments: nothing can be told of it"
    )


@contextmanager
def filling(byte: int) -> Iterator[None]:
    """Within the block, new memory on emu is full of `byte`."""
    before = emulated.UNWRITTEN
    emulated.UNWRITTEN = byte
    try:
        yield
    finally:
        emulated.UNWRITTEN = before


def _put(made: Case) -> list[Any]:
    return run_case.placed(made.arrays, get_device("emu"))


def _is_filled(array: np.ndarray, byte: int) -> np.ndarray:
    """Where an array's elements have this value in every byte."""
    plain = np.ascontiguousarray(array)
    cells = plain.view(np.uint8).reshape(*plain.shape, plain.dtype.itemsize)
    return (cells == byte).all(axis=-1)


def _is_constant(array: np.ndarray) -> bool:
    return array.size > 0 and bool((array == array.reshape(-1)[0]).all())
