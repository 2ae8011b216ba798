"""How primitives declare calls: arrays to draw, forms of sizes, functions of each element.

Counting. A multiply-add is two operations; a convolution's padding counts, as it does in all
published figures, and everything that is no matrix product counts one operation an element of its
largest array. Bytes are the least that must move: each argument read once, each result written
once, one that is changed in place both; of an image under windows, the pixels that a window holds.
What is no array of the call, as the numbers of the rows that `index` picks, does not count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from gpukit.dispatch.declaration import Argument, Arrays, Declaration, Form, Problem, Sizes
from gpukit.dispatch.dice import Case, Dice
from gpukit.primitives.windows import Window

MAP = Form("map", ("N", "H", "W", "C"), layers="maps")
ROWS = Form("rows", ("N", "C"), layers="softmaxes")

USUAL_MAP = (8, 28, 28, 64)
# More blocks of elements than a launcher that caps its grid would give.
MANY = (8 * 28 * 28 * 256,)
CLASSES = (256, 1000)

Exact = Literal["never", "whole", "always"]  # for no numbers, for whole ones, for all
Draw = Callable[..., Argument]


def normal(*shape: int) -> Argument:
    """Normal float32 numbers: zeros would run faster."""
    return Argument(
        shape, np.float32, lambda random, _: random.standard_normal(shape, dtype=np.float32)
    )


def between(low: float, high: float) -> Draw:
    """float32 numbers, evenly from low to high: `between(0, 1)(3, 5)`."""

    def numbers(*shape: int) -> Argument:
        def draw(random: np.random.Generator, _: Arrays) -> np.ndarray:
            made = random.random(shape, dtype=np.float32)
            made *= np.float32(high - low)
            made += np.float32(low)
            return made

        return Argument(shape, np.float32, draw)

    return numbers


def integers(high: int, *shape: int, dtype: Any = np.int64) -> Argument:
    """Whole numbers from 0 to high - 1."""
    return Argument(shape, dtype, lambda random, _: random.integers(0, high, shape, dtype))


def pixels(window: Window, image: tuple[int, ...]) -> tuple[int, int]:
    """Of an image (H, W): those that some window holds, and those of all windows together.

    Cells of a window are neighbours: dilation is none of the sizes that calls are known by.
    """
    seen = together = 1
    for n, f, s, (before, _), outputs in zip(
        image, window.size, window.stride, window.padding, window.output_shape(image)
    ):
        new = held = first = 0
        for i in range(outputs):
            begin, end = max(i * s - before, 0), min(i * s - before + f, n)
            held += max(end - begin, 0)
            new += max(end - max(begin, first), 0)
            first = max(first, end)
        seen, together = seen * new, together * held
    return seen, together


def call(arguments: Sequence[Argument], *results: Sizes, **known: Any) -> Problem:
    """The call with these arguments, and float32 results of these shapes."""
    sizes = [math.prod(shape) for shape in results]
    elements = max(*(a.size for a in arguments), *sizes)
    counts = {
        "flop": elements,
        "least_flop": elements,
        "read": sum(a.nbytes for a in arguments),
        "written": 4 * sum(sizes),
    }
    return Problem(tuple(arguments), **{**counts, **known})


def _is_exact(exact: Exact, dice: Dice) -> bool:
    return exact == "always" or (exact == "whole" and dice.whole)


def _chosen(choices: dict[str, tuple[Any, ...]], dice: Dice) -> dict[str, Any]:
    return {name: dice.one(*values) for name, values in choices.items()}


def _by_element(
    skeleton: str,
    draw: Callable[[Dice], Case],
    numbers: tuple[Draw, ...],
    expression: str,
    torch: Any,
    choices: dict[str, tuple[Any, ...]] | None = None,
    plain: Callable[[Dice], Case] | None = None,
) -> Declaration:
    settings = {name: values[0] for name, values in (choices or {}).items()}
    return Declaration(
        draw,
        MAP,
        lambda *shape: call([of(*shape) for of in numbers], shape, settings=settings),
        usual=MANY,
        plain=plain,
        torch=torch,
        skeleton=skeleton if expression else "",
        expression=expression,
    )


def unary(
    expression: str = "",
    *,
    numbers: Draw = normal,
    positive: bool = False,
    holes: bool = False,
    exact: Exact = "never",
    torch: Any = None,
    **choices: tuple[Any, ...],
) -> Declaration:
    """A function of each element, in C++ an expression in `v`; `choices` of its settings.

    `positive` numbers only; or such with `holes`, NaN and infinities.
    """

    def draw(dice: Dice) -> Case:
        x = dice.array(*dice.shape(), positive=positive)
        x = dice.holes(x) if holes else x
        return Case([x], _chosen(choices, dice), _is_exact(exact, dice))

    return _by_element("unary", draw, (numbers,), expression, torch, choices)


def gradient(
    expression: str = "",
    *,
    kept: Draw = normal,
    exact: Exact = "never",
    torch: Any = None,
    **choices: tuple[Any, ...],
) -> Declaration:
    """The gradient of a function of each element, from gy and what the forward pass `kept`.

    In C++ an expression in `g` and `v`.
    """

    def draw(dice: Dice) -> Case:
        shape = dice.shape()
        arrays = [dice.array(*shape), dice.array(*shape)]
        return Case(arrays, _chosen(choices, dice), _is_exact(exact, dice))

    return _by_element("gradient", draw, (normal, kept), expression, torch, choices)


def binary(
    expression: str,
    *,
    numbers: tuple[Draw, Draw] = (normal, normal),
    positive: bool = False,
    holes: bool = False,
    exact: Exact = "never",
    torch: Any = None,
) -> Declaration:
    """A function of two elements, with broadcasting; in C++ an expression in `a` and `b`."""

    def draw(dice: Dice) -> Case:
        shape = dice.shape()
        other = shape
        if dice.chance(0.5):  # one of them repeats along some axes, and may have fewer
            other = tuple(1 if dice.chance(0.4) else n for n in shape)
            other = other[dice.between(0, len(other)) :] if dice.chance(0.5) else other
        x: Any = dice.array(*shape, positive=positive)
        y: Any = dice.array(*other, positive=positive)
        if dice.chance(0.15):
            y = dice.one(0.5, 2.0, 3, np.float64(1.5))
        if holes:
            x = dice.holes(x)
        if dice.chance(0.5):
            x, y = y, x
        return Case([x, y], exact=_is_exact(exact, dice))

    def plain(dice: Dice) -> Case:
        shape = (dice.between(1, 9), dice.between(1, 300))
        return Case([dice.array(*shape), dice.array(*shape, positive=True)], length=2)

    return _by_element("binary", draw, numbers, expression, torch, plain=plain)
