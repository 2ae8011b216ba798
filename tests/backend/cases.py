"""Seeded random configurations and error bounds for the tests of the primitives.

A failing assertion prints the configuration; `conv_case(random.Random(seed))` makes it again.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gpukit.primitives import Conv, Window

# How many times the usual number of random configurations: .ci/deep asks for more.
TIMES = int(os.environ.get("GPUKIT_TEST_CASES", "1"))

TINY = {np.dtype(np.float32): 2.0**-24, np.dtype(np.float64): 2.0**-53}


class ConvCase(NamedTuple):
    """Shapes and settings of one convolution."""

    seed: int
    x: tuple[int, int, int, int]
    w: tuple[int, int, int, int]
    settings: dict[str, Any]
    bias: bool

    def array(self, shape: Sequence[int], salt: int, dtype: Any, whole: bool = False) -> np.ndarray:
        """Normal numbers, or whole ones in -3 … 3, that depend on the case and on `salt` only."""
        return values(shape, (self.seed, salt), dtype, whole)


class PoolCase(NamedTuple):
    """Shapes and settings of one pooling."""

    seed: int
    x: tuple[int, int, int, int]
    settings: dict[str, Any]

    array = ConvCase.array


def values(shape: Sequence[int], seed: Any, dtype: Any, whole: bool = False) -> np.ndarray:
    """Reproducible test data."""
    source = np.random.default_rng(seed)
    if whole:
        return source.integers(-3, 4, shape).astype(dtype)
    return source.standard_normal(shape).astype(dtype)


def conv_case(seed: int, most: int = 13) -> ConvCase:
    """A convolution of up to `most` pixels a side, in which at least one window fits."""
    pick = random.Random(seed)
    while True:
        groups = pick.choice([1, 1, 1, 2, 3, 4])
        c_group, k_group = pick.choice([1, 1, 2, 3, 5]), pick.choice([1, 1, 2, 3, 4])
        kernel = (pick.choice([1, 1, 2, 3, 3, 4, 5]), pick.choice([1, 2, 3, 3, 5, 7]))
        if pick.random() < 0.15:
            kernel = (1, 1)
        stride = (pick.choice([1, 1, 2, 3, 5]), pick.choice([1, 1, 2, 3, 4]))
        dilation = (pick.choice([1, 1, 1, 2, 3]), pick.choice([1, 1, 1, 2, 3]))
        padding = tuple((pick.choice([0, 0, 1, 2]), pick.choice([0, 0, 1, 3])) for _ in range(2))
        n, h, w = pick.choice([0, 1, 1, 2, 3]), pick.randint(1, most), pick.randint(1, most)
        rooms = (h + sum(padding[0]), w + sum(padding[1]))
        if all((f - 1) * d < room for f, d, room in zip(kernel, dilation, rooms)):
            break
    return ConvCase(
        seed,
        (n, h, w, groups * c_group),
        (*kernel, c_group, groups * k_group),
        {"conv": Conv(stride=stride, padding=padding, dilation=dilation, groups=groups)},
        pick.random() < 0.5,
    )


def pool_case(seed: int, most: int = 12) -> PoolCase:
    """A pooling in which no window is wholly padding."""
    pick = random.Random(seed)
    while True:
        window = (pick.randint(1, 4), pick.randint(1, 4))
        stride = (pick.randint(1, 5), pick.randint(1, 5))
        padding = tuple((pick.randint(0, f - 1), pick.randint(0, f - 1)) for f in window)
        x = (pick.choice([0, 1, 2]), pick.randint(1, most), pick.randint(1, most))
        if all(f <= n + sum(p) for f, n, p in zip(window, x[1:], padding)):
            break
    settings = {"window": Window(window, stride=stride, padding=padding)}
    return PoolCase(seed, (*x, pick.choice([1, 2, 3, 5, 8, 17])), settings)


def assert_sums_close(
    actual: np.ndarray, exact: np.ndarray, length: int, what: Any, scale: float = 1.0
) -> None:
    """Hold sums of `length` products of root mean square `scale` against their float64 values.

    float64 within 1e-10 of the scale. float32 within 4·(length + 8)·scale unit roundoffs: with
    products of random sign a partial sum is about √length large, so a running sum is off by up to
    about length/√2 roundoffs, a blocked one by less. Fewer bits (TF32, bf16), or one
    product left out, is far outside.
    """
    assert actual.shape == exact.shape, what
    allowed = 1e-10 if actual.dtype == np.float64 else 4 * (length + 8) * TINY[actual.dtype]
    worst = np.max(np.abs(actual - exact), initial=0.0) / scale
    assert worst <= allowed, f"off by {worst:.3g}, {allowed:.3g} allowed, in {what}"


def assert_close(actual: np.ndarray, exact: np.ndarray, what: Any = "", ulps: float = 16) -> None:
    """Element by element, relative to 1 + |exact|: float64 1e-10, float32 `ulps` roundings."""
    assert actual.shape == exact.shape, what
    relative = 1e-10 if actual.dtype == np.float64 else ulps * 2 * TINY[actual.dtype]
    error = np.abs(actual - exact) / (1 + np.abs(exact))
    worst = np.max(error, initial=0.0)
    assert worst <= relative, f"off by {worst:.3g} of 1 + |value|, {relative:.3g} allowed, {what}"
