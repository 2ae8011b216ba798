"""Random arguments for every primitive, by seed and number: the same everywhere, at any time.

    case("conv2d", seed=17, number=4)

Shapes are the awkward ones: odd sizes, strides beyond the kernel, images of one pixel, groups of
one channel, no images at all, arrays that are not contiguous. Odd numbers are float64, and of each
four cases two hold whole numbers, whose sums are exact.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpukit.primitives.pool import index_dtype
from gpukit.primitives.windows import Conv, Window


@dataclass
class Case:
    """A call: arrays and settings; `exact` if the result must match to the bit.

    Otherwise it is a sum of at most `length` terms of about `scale`, see compare.py.
    """

    arrays: list[Any]
    settings: dict[str, Any] = field(default_factory=dict)
    exact: bool = False
    length: int = 1
    scale: float = 1.0


def flat(arrays: list[Any]) -> list[Any]:
    """Arguments, with lists of arrays (as concat takes) taken apart."""
    return [a for value in arrays for a in (value if isinstance(value, list) else [value])]


def copies(value: Any) -> Any:
    """Arguments, arrays among them copied, lists of them too."""
    if isinstance(value, list):
        return [copies(v) for v in value]
    return value.copy() if isinstance(value, np.ndarray) else value


def same(a: Any, b: Any) -> bool:
    """Whether two arrays are equal, NaN to NaN; of other arguments nothing is asked."""
    if not isinstance(a, np.ndarray):
        return True
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))


class Dice:
    """Random choices and arrays of one case."""

    def __init__(self, name: str, seed: int, number: int) -> None:
        self._pick = random.Random(f"{name} {seed} {number}")
        self._numbers = np.random.default_rng([seed % 2**64, number, *name.encode()])
        self.dtype = np.float64 if number % 2 else np.float32
        self.whole = number % 4 < 2
        self.number = number

    def one(self, *choices: Any) -> Any:
        return self._pick.choice(choices)

    def between(self, low: int, high: int) -> int:
        return self._pick.randint(low, high)

    def chance(self, probability: float) -> bool:
        return self._pick.random() < probability

    def array(self, *shape: int, positive: bool = False) -> np.ndarray:
        """Normal numbers, or whole ones from -3 to 3; away from 0 and above it if `positive`."""
        if self.whole:
            made = self._numbers.integers(1 if positive else -3, 4, shape).astype(self.dtype)
        else:
            made = self._numbers.standard_normal(shape).astype(self.dtype)
            if positive:
                made = (np.abs(made) + 0.5).astype(self.dtype)
        return self.spread(np.asarray(made))

    def integers(self, low: int, high: int, shape: Sequence[int], dtype: Any) -> np.ndarray:
        return self._numbers.integers(low, high, shape).astype(dtype)

    def spread(self, array: np.ndarray) -> np.ndarray:
        """`array`, now and then with other strides than a contiguous one."""
        if array.ndim and self.chance(0.15):
            return np.asfortranarray(array) if array.ndim > 1 else np.repeat(array, 2)[::2]
        return array

    def holes(self, array: np.ndarray) -> np.ndarray:
        """`array`, now and then with NaN and infinities in it."""
        if self.chance(0.2):
            chosen = self._numbers.random(array.shape) < 0.2
            array = array.copy()
            array[chosen] = self.one(np.nan, np.inf, -np.inf)
        return array

    def shape(self, most: int = 9) -> tuple[int, ...]:
        """Of up to 4 axes; seldom empty, now and then a few thousand elements."""
        if self.chance(0.1):
            return (self.between(1000, 5000),)
        sizes = [self.between(1, most) for _ in range(self.between(0, 4))]
        if sizes and self.chance(0.08):
            sizes[self.between(0, len(sizes) - 1)] = 0
        return tuple(sizes)


def case(name: str, seed: int, number: int) -> Case:
    """Arguments number `number` for the primitive `name` under `seed`."""
    return MAKERS[name](Dice(name, seed, number))


MAKERS: dict[str, Callable[[Dice], Case]] = {}


def _makes(*names: str) -> Callable[[Callable[[Dice], Case]], Callable[[Dice], Case]]:
    def enter(make: Callable[[Dice], Case]) -> Callable[[Dice], Case]:
        for name in names:
            MAKERS[name] = make
        return make

    return enter


def _convolution(dice: Dice) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], Conv]:
    """Shapes of x, w and y, and how the kernel slides."""
    if dice.chance(0.1):
        return _first_convolution(dice)
    while True:
        groups = dice.one(1, 1, 1, 2, 3, 4)
        c_group, k_group = dice.one(1, 1, 2, 3, 5), dice.one(1, 1, 2, 3, 4)
        if dice.chance(0.15):  # groups = channels
            groups, c_group = dice.between(2, 9), 1
        if dice.chance(0.1):  # across the edges of tiles
            groups, c_group, k_group = 1, dice.between(15, 40), dice.between(15, 140)
        kernel = (dice.one(1, 1, 2, 3, 3, 4, 5), dice.one(1, 2, 3, 3, 5, 7))
        stride = (dice.one(1, 1, 2, 3, 5), dice.one(1, 1, 2, 3, 4))
        dilation = (dice.one(1, 1, 1, 2, 3), dice.one(1, 1, 1, 2, 3))
        padding = tuple((dice.one(0, 0, 1, 2), dice.one(0, 0, 1, 3)) for _ in range(2))
        n, h, w = dice.one(0, 1, 1, 2, 3), dice.between(1, 13), dice.between(1, 13)
        if dice.chance(0.1):
            h = w = 1
        rooms = (h + sum(padding[0]), w + sum(padding[1]))
        if all((f - 1) * d < room for f, d, room in zip(kernel, dilation, rooms)):
            break
    conv = Conv(stride, padding, dilation, groups)  # type: ignore[arg-type]
    p, q = conv.output_shape((h, w), kernel)
    channels = groups * c_group
    filters = groups * k_group
    return (n, h, w, channels), (*kernel, c_group, filters), (n, p, q, filters), conv


def _first_convolution(
    dice: Dice,
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], Conv]:
    """The same for a layer that sees images: few channels, many filters, large windows."""
    kernel = (dice.one(1, 3, 5, 7, 11), dice.one(1, 2, 3, 5, 11))
    stride = (dice.one(1, 2, 4, 13), dice.one(1, 2, 3, 4))
    padding = tuple((dice.one(0, 0, 2), dice.one(0, 0, 1, 5)) for _ in range(2))
    image = tuple(f + dice.between(0, 30) for f in kernel)
    n, channels, filters = dice.one(0, 1, 1, 2), dice.between(1, 4), dice.one(24, 33, 48, 64, 97)
    conv = Conv(stride, padding)  # type: ignore[arg-type]
    p, q = conv.output_shape(image, kernel)
    return (n, *image, channels), (*kernel, channels, filters), (n, p, q, filters), conv


@_makes("conv2d")
def _(dice: Dice) -> Case:
    x, w, _, conv = _convolution(dice)
    bias = dice.array(w[3]) if dice.chance(0.5) else None
    activation = dice.one(None, None, "relu", "sigmoid", "tanh")
    return Case(
        [dice.array(*x), dice.array(*w), bias],
        {"conv": conv, "activation": activation},
        exact=dice.whole and activation in (None, "relu"),
        length=math.prod(w[:3]),
    )


@_makes("conv2d_input_grad")
def _(dice: Dice) -> Case:
    x, w, y, conv = _convolution(dice)
    return Case(
        [dice.array(*y), dice.array(*w)],
        {"conv": conv, "input_shape": x},
        exact=dice.whole,
        length=w[0] * w[1] * w[3] // conv.groups,
    )


@_makes("conv2d_weight_grad")
def _(dice: Dice) -> Case:
    x, w, y, conv = _convolution(dice)
    return Case(
        [dice.array(*x), dice.array(*y)],
        {"conv": conv, "kernel_shape": w},
        exact=dice.whole,
        length=math.prod(y[:3]),
    )


@_makes("bias_grad")
def _(dice: Dice) -> Case:
    shape = (dice.one(0, 1, 3, 70), *dice.one((), (3, 5), (7,)), dice.between(1, 70))
    return Case([dice.array(*shape)], exact=dice.whole, length=math.prod(shape[:-1]))


def _product(dice: Dice) -> tuple[int, int, int]:
    """Rows, inner length, columns."""
    wide = dice.chance(0.25)
    most = 150 if wide else 20
    return dice.one(0, 1, dice.between(1, most)), dice.between(1, most), dice.between(1, most)


@_makes("dense")
def _(dice: Dice) -> Case:
    m, k, n = _product(dice)
    activation = dice.one(None, None, "relu", "sigmoid", "tanh")
    return Case(
        [dice.array(m, k), dice.array(k, n), dice.array(n) if dice.chance(0.5) else None],
        {"activation": activation},
        exact=dice.whole and activation in (None, "relu"),
        length=k,
    )


@_makes("dense_input_grad")
def _(dice: Dice) -> Case:
    m, k, n = _product(dice)
    return Case([dice.array(m, k), dice.array(n, k)], exact=dice.whole, length=k)


@_makes("dense_weight_grad")
def _(dice: Dice) -> Case:
    m, k, n = _product(dice)
    return Case([dice.array(m, k), dice.array(m, n)], exact=dice.whole, length=m)


@_makes("matmul")
def _(dice: Dice) -> Case:
    m, k, n = _product(dice)
    return Case([dice.array(m, k), dice.array(k, n)], exact=dice.whole, length=k)


def pooling(dice: Dice) -> tuple[tuple[int, ...], tuple[int, ...], Window]:
    """Shapes of x and y, and a window; none lies wholly in the padding."""
    while True:
        size = (dice.between(1, 4), dice.between(1, 4))
        if dice.chance(0.04):
            size = (dice.one(1, 16, 17), dice.one(16, 257))
        stride = (dice.between(1, 5), dice.between(1, 5))
        padding = tuple((dice.between(0, f - 1), dice.between(0, f - 1)) for f in size)
        image = (dice.one(1, dice.between(1, 12)), dice.one(1, dice.between(1, 12)))
        if max(size) > 4:
            padding, image = ((0, 0), (0, 0)), (size[0] + 1, size[1] + 2)
        if all(f <= n + sum(pads) for f, n, pads in zip(size, image, padding)):
            break
    n, c = dice.one(0, 1, 2), dice.one(1, 2, 3, 5, 8, 17)
    window = Window(size, stride, padding)  # type: ignore[arg-type]
    return (n, *image, c), (n, *window.output_shape(image), c), window


@_makes("max_pool2d")
def _(dice: Dice) -> Case:
    x, _, window = pooling(dice)
    return Case([dice.holes(dice.array(*x))], {"window": window}, exact=True)


@_makes("max_pool2d_grad")
def _(dice: Dice) -> Case:
    x, y, window = pooling(dice)
    # Any cell that is a pixel could have won; others are not in a real index, but do no harm.
    index = dice.integers(0, window.cells, y, index_dtype(window))
    settings = {"window": window, "input_shape": x}
    return Case([dice.array(*y), dice.spread(index)], settings, dice.whole, window.cells)


@_makes("avg_pool2d")
def _(dice: Dice) -> Case:
    x, _, window = pooling(dice)
    return Case([dice.array(*x)], {"window": window}, length=window.cells)


@_makes("avg_pool2d_grad")
def _(dice: Dice) -> Case:
    x, y, window = pooling(dice)
    return Case([dice.array(*y)], {"window": window, "input_shape": x}, length=window.cells)


def _map(dice: Dice) -> tuple[int, int, int, int]:
    n, h, w = dice.one(0, 1, 3), dice.between(1, 30), dice.between(1, 30)
    return n, h, w, dice.one(1, 2, 3, 8, 33, 100)


@_makes("global_avg_pool2d")
def _(dice: Dice) -> Case:
    shape = _map(dice)
    return Case([dice.array(*shape)], length=shape[1] * shape[2])


@_makes("global_avg_pool2d_grad")
def _(dice: Dice) -> Case:
    shape = _map(dice)
    return Case([dice.array(shape[0], shape[3])], {"input_shape": shape})
