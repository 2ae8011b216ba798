"""Random cases of primitives, by name, seed and number: the same everywhere, at any time.

Shapes are the awkward ones: odd sizes, strides beyond the kernel, images of one pixel, groups of
one channel, no images at all, arrays that are not contiguous. Odd numbers are float64, and of each
four cases two hold whole numbers, whose sums are exact.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


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
