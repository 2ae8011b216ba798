"""Initialisers: first values of parameters, drawn from a generator seeded by the model.

An initialiser is called with (shape, dtype, rng) and gives a NumPy array. Kernels are (in, out) or
(R, S, C/groups, K). Each output of a layer sums fan-in inputs, each input reaches fan-out outputs:
R·S·C/groups and R·S·K/groups for a convolution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpukit.core.config import Configurable, Family, number
from gpukit.errors import ShapeError


class Initializer(Configurable):
    """Base of all initialisers; subclasses give the values of one array."""

    def __call__(
        self, shape: Sequence[int], dtype: Any, rng: np.random.Generator, groups: int = 1
    ) -> np.ndarray:
        """A new host array of `shape` and `dtype`, a function of the state of `rng` alone."""
        values = self.draw(tuple(shape), rng, groups)
        return np.ascontiguousarray(values, dtype=dtype)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, groups: int) -> np.ndarray:
        """Values as float64."""
        raise NotImplementedError


class Constant(Initializer):
    """Every value is `value`."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = number("value", value)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, groups: int) -> np.ndarray:
        return np.full(shape, self.value)


class Zeros(Initializer):
    """All zero: right for biases; a network whose kernels are all zero learns nothing."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, groups: int) -> np.ndarray:
        return np.zeros(shape)


class Ones(Initializer):
    """All one."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, groups: int) -> np.ndarray:
        return np.ones(shape)


class RandomNormal(Initializer):
    """Gaussian with `mean` and `stddev`; AlexNet's kernels have 0.01."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05) -> None:
        self.mean = number("mean", mean)
        self.stddev = number("stddev", stddev, low=0)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, groups: int) -> np.ndarray:
        return rng.normal(self.mean, self.stddev, shape)


class RandomUniform(Initializer):
    """Uniform from `minval` up to `maxval`."""

    def __init__(self, minval: float = -0.05, maxval: float = 0.05) -> None:
        self.minval = number("minval", minval)
        self.maxval = number("maxval", maxval, low=self.minval)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, groups: int) -> np.ndarray:
        return rng.uniform(self.minval, self.maxval, shape)


class _Scaled(Initializer):
    """Zero mean and a variance of scale / fan, as `variance` says."""

    normal = False

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, groups: int) -> np.ndarray:
        variance = self.variance(*fans(shape, groups))
        if self.normal:
            return rng.normal(0.0, math.sqrt(variance), shape)
        limit = math.sqrt(3 * variance)
        return rng.uniform(-limit, limit, shape)

    def variance(self, fan_in: float, fan_out: float) -> float:
        raise NotImplementedError


class GlorotUniform(_Scaled):
    """Uniform in ±√(6/(in + out)). Glorot and Bengio, 2010."""

    def variance(self, fan_in: float, fan_out: float) -> float:
        return 2 / (fan_in + fan_out)


class GlorotNormal(GlorotUniform):
    """Gaussian of variance 2/(in + out). Glorot and Bengio, 2010."""

    normal = True


class HeUniform(_Scaled):
    """Uniform in ±√(6/in), for ReLUs. He et al., 2015."""

    def variance(self, fan_in: float, fan_out: float) -> float:
        return 2 / fan_in


class HeNormal(HeUniform):
    """Gaussian of variance 2/in, for ReLUs. He et al., 2015."""

    normal = True


class _Function(Initializer):
    """A user's function of (shape, dtype, rng)."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(
        self, shape: Sequence[int], dtype: Any, rng: np.random.Generator, groups: int = 1
    ) -> np.ndarray:
        values = np.array(self.function(tuple(shape), dtype, rng), dtype=dtype)
        if values.shape != tuple(shape):
            raise ShapeError(
                f"initializer {getattr(self.function, '__name__', self.function)!r} gave shape "
                f"{values.shape} for {tuple(shape)}"
            )
        return values


def fans(shape: Sequence[int], groups: int = 1) -> tuple[float, float]:
    """(fan-in, fan-out) of a kernel (in, out) or (R, S, C/groups, K); at least 1 each."""
    if len(shape) < 2:
        size = max(math.prod(shape), 1)
        return size, size
    window = math.prod(shape[:-2])
    return max(window * shape[-2], 1), max(window * shape[-1] / groups, 1)


_family = Family[Initializer]("initializer", Initializer, wrap=_Function)
_family.add(
    Zeros,
    Ones,
    Constant,
    RandomNormal,
    RandomUniform,
    GlorotUniform,
    GlorotNormal,
    HeNormal,
    HeUniform,
    normal=RandomNormal,
    uniform=RandomUniform,
    zero=Zeros,
    one=Ones,
)

get = _family.get
from_config = _family.from_config
register = _family.register
