"""Cases of implementations: random ones that they support, and one usual call.

    case("conv2d", seed=17, number=4)

Primitives declare both. Their random cases are awkward on purpose; for plug-ins cases like the
layers of networks come in turn with them, or a kernel for 3×3 windows would wait for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from gpukit.dispatch.dice import Case, Dice
from gpukit.dispatch.primitive import registry
from gpukit.errors import GpukitError
from gpukit.verify.coverage import Target

TRIES = 1000
STEP = 1_000_003  # between the numbers that are tried; odd, so that both dtypes come up
_USUAL_TRIES = 40


def flat(arrays: list[Any]) -> list[Any]:
    """Arguments, with lists of arrays (as concat takes) taken apart."""
    return [a for value in arrays for a in (value if isinstance(value, list) else [value])]


def mapped(function: Callable[[np.ndarray], Any], arguments: list[Any]) -> list[Any]:
    """Arguments, `function` of each array among them, also within lists."""

    def one(value: Any) -> Any:
        if isinstance(value, list):
            return mapped(function, value)
        return function(value) if isinstance(value, np.ndarray) else value

    return [one(value) for value in arguments]


def copies(arguments: list[Any]) -> list[Any]:
    """Arguments, arrays among them copied."""
    return mapped(np.ndarray.copy, arguments)


def same(a: Any, b: Any) -> bool:
    """Whether two arrays are equal, NaN to NaN; of other arguments nothing is asked."""
    if not isinstance(a, np.ndarray):
        return True
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))


def draw(name: str) -> Callable[[Dice], Case] | None:
    """What makes random cases of a primitive, or of an implementation ("conv2d:implicit")."""
    primitive, _, algo = name.partition(":")
    declared = registry[primitive].declaration
    return declared.draw_of.get(algo, declared.draw) if declared else None


def case(name: str, seed: int, number: int) -> Case:
    """Arguments number `number` for the primitive `name` under `seed`."""
    make = draw(name)
    assert make
    return make(Dice(name, seed, number))


def supported(target: Target, seed: int, number: int) -> Case | None:
    """Case `number` of a target: of those tried, the first that it supports; None if none is."""
    implementation = target.implementation
    declared = registry[target.primitive].declaration
    make = draw(str(target))
    assert declared and make
    plain = declared.plain if implementation.origin else None
    for attempt in range(TRIES):
        dice = Dice(target.primitive, seed, number + STEP * attempt)
        made = plain(dice) if plain and attempt % 3 else make(dice)
        before = copies(made.arrays)
        takes = implementation.takes(tuple(made.arrays), made.settings)
        if not all(map(same, flat(before), flat(made.arrays))):
            raise GpukitError(f"supports of {target} writes to its arguments")
        if takes:
            return made
    return None


def other_values(made: Case, seed: int) -> Case:
    """The same case with the elements of each array in another order: as good as other data."""
    rng = np.random.default_rng(seed)

    def shuffled(array: np.ndarray) -> np.ndarray:
        if array.size < 2:
            return array
        mixed = rng.permutation(array.reshape(-1)).reshape(array.shape)
        return (mixed * array.dtype.type(2)) if array.dtype.kind == "f" else mixed

    return replace(made, arrays=mapped(shuffled, made.arrays), scale=4 * made.scale)


def usual(target: Target, dtype: str = "float32") -> Case:
    """The usual call of a target in `dtype`, large enough for whole tiles and many blocks.

    Where it does not support that, the largest of random cases; no arrays where there is none.
    """
    declared = registry[target.primitive].declaration
    if not declared:
        return Case([])
    made = declared.usual_call(target.algo)
    made.arrays = mapped(lambda a: a.astype(dtype) if a.dtype.kind == "f" else a, made.arrays)
    # Settings are on no device: numbers that pick rows go as a list.
    made.settings = {
        k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in made.settings.items()
    }
    if "dtype" in made.settings:
        made.settings["dtype"] = dtype
    if target.implementation.takes(tuple(made.arrays), made.settings):
        return made
    first = int(dtype == "float64")  # odd cases are in it
    cases = [supported(target, 0, number) for number in range(first, _USUAL_TRIES, 2)]
    return max((c for c in cases if c is not None), key=_size, default=Case([]))


def _size(made: Case) -> int:
    return sum(a.size for a in flat(made.arrays) if isinstance(a, np.ndarray))
