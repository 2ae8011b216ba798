"""Random arguments for convolution's implementations that the usual cases of cases.py hardly reach.

conv2d:depthwise   one channel a group: in packs and not, one filter each or several
conv2d:implicit    besides the usual cases, whole packs, more than a tile, sums cut into ranges
"""

from __future__ import annotations

import math
from collections.abc import Callable

from gpukit.primitives.windows import Conv
from gpukit.verify.cases import MAKERS, Case, Dice

Shape = tuple[int, ...]
Drawn = tuple[Shape, Shape, Shape, Conv]  # shapes of x, w, y, and how the kernel slides


def _depthwise(dice: Dice) -> Drawn:
    channels = dice.one(1, 2, 3, 4, 4, 8, 8, 12, 20, dice.between(1, 150))
    each = dice.one(1, 1, 1, 2, 3, 4, 7)
    kernel = dice.one((3, 3), (3, 3), (5, 5), (1, 1), (2, 3), (4, 5), (3, 7))
    return _fitted(dice, channels, channels * each, channels, kernel)


def _deep(dice: Dice) -> Drawn:
    groups = dice.one(1, 1, 2)
    depth, filters = dice.one(4, 8, 16, 64), dice.one(4, 8, 20, 36, 72)
    kernel = dice.one((1, 1), (3, 3), (3, 3), (5, 5))
    if dice.chance(0.3):  # hundreds of products a sum, few sums
        groups, depth, filters = 1, dice.one(60, 64, 71), dice.one(5, 8, 16)
        kernel = (3, 3)
    return _fitted(dice, groups * depth, groups * filters, groups, kernel)


def _fitted(dice: Dice, channels: int, filters: int, groups: int, kernel: Shape) -> Drawn:
    """An image into which the window goes; now and then of hundreds of pixels, or none."""
    while True:
        stride = (dice.one(1, 1, 1, 2, 3), dice.one(1, 1, 1, 2, 3))
        dilation = (dice.one(1, 1, 1, 2), dice.one(1, 1, 1, 2, 3))
        padding = tuple((dice.one(0, 1, 2), dice.one(0, 1, 3)) for _ in range(2))
        n, h, w = dice.one(0, 1, 1, 2), dice.between(1, 9), dice.between(1, 9)
        if dice.chance(0.1):
            n, h, w = 2, 18, 17
        rooms = (h + sum(padding[0]), w + sum(padding[1]))
        if all((f - 1) * d < room for f, d, room in zip(kernel, dilation, rooms)):
            break
    conv = Conv(stride, padding, dilation, groups)  # type: ignore[arg-type]
    y = (n, *conv.output_shape((h, w), kernel), filters)
    return (n, h, w, channels), (*kernel, channels // groups, filters), y, conv


def _forward(drawn: Drawn, dice: Dice) -> Case:
    x, w, _, conv = drawn
    bias = dice.array(w[3]) if dice.chance(0.5) else None
    activation = dice.one(None, None, "relu", "sigmoid", "tanh")
    return Case(
        [dice.array(*x), dice.array(*w), bias],
        {"conv": conv, "activation": activation},
        exact=dice.whole and activation in (None, "relu"),
        length=math.prod(w[:3]),
    )


def _input_grad(drawn: Drawn, dice: Dice) -> Case:
    x, w, y, conv = drawn
    settings = {"conv": conv, "input_shape": x}
    length = w[0] * w[1] * w[3] // conv.groups
    return Case([dice.array(*y), dice.array(*w)], settings, dice.whole, length)


def _weight_grad(drawn: Drawn, dice: Dice) -> Case:
    x, w, y, conv = drawn
    return Case(
        [dice.array(*x), dice.array(*y)],
        {"conv": conv, "kernel_shape": w},
        exact=dice.whole,
        length=math.prod(y[:3]),
    )


PASSES: dict[str, Callable[[Drawn, Dice], Case]] = {
    "conv2d": _forward,
    "conv2d_input_grad": _input_grad,
    "conv2d_weight_grad": _weight_grad,
}


def _enter(primitive: str, build: Callable[[Drawn, Dice], Case]) -> None:
    usual = MAKERS[primitive]

    def implicit(dice: Dice) -> Case:
        return usual(dice) if dice.chance(0.5) else build(_deep(dice), dice)

    MAKERS[f"{primitive}:implicit"] = implicit
    MAKERS[f"{primitive}:depthwise"] = lambda dice: build(_depthwise(dice), dice)


for _name, _build in PASSES.items():
    _enter(_name, _build)
