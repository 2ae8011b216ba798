"""Initialisers: first values of parameters, drawn from a generator seeded by the model.

An initialiser is called with (shape, dtype, rng) and gives a NumPy array. Kernels are (in, out) or
(R, S, C/groups, K). Each output of a layer sums fan-in inputs, each input reaches fan-out outputs:
R·S·C/groups and R·S·K/groups for a convolution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from gpukit.core.config import Configurable, Family, flag, number, show, whole
from gpukit.errors import SettingError, ShapeError


class Initializer(Configurable):
    """Base of all initialisers; subclasses give the values of one array.

    One with a `seed` gives the same values at each call, whatever generator it is given.
    """

    seed: int | None = None

    def __call__(
        self, shape: Sequence[int], dtype: Any, rng: np.random.Generator, groups: int = 1
    ) -> np.ndarray:
        """A new host array of `shape` and `dtype`, a function of the state of `rng` alone."""
        if self.seed is not None:
            rng = np.random.default_rng(self.seed)
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

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        self.mean = number("mean", mean)
        self.stddev = number("stddev", stddev, low=0)
        self.seed = _seed(seed)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, groups: int) -> np.ndarray:
        return rng.normal(self.mean, self.stddev, shape)


class TruncatedNormal(RandomNormal):
    """Gaussian with `mean` and `stddev`, drawn again where it is beyond two of them."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, groups: int) -> np.ndarray:
        return self.mean + self.stddev * _within_two(rng, shape)


class RandomUniform(Initializer):
    """Uniform from `minval` up to `maxval`."""

    def __init__(
        self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None
    ) -> None:
        self.minval = number("minval", minval)
        self.maxval = number("maxval", maxval, low=self.minval)
        self.seed = _seed(seed)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, groups: int) -> np.ndarray:
        return rng.uniform(self.minval, self.maxval, shape)


class VarianceScaling(Initializer):
    """Zero mean and a variance of scale / fan.

    `mode` says which fan: "fan_in", "fan_out" or "fan_avg", their mean. `distribution` is
    "truncated_normal" (a Gaussian drawn again beyond two deviations, of the same variance),
    "untruncated_normal" or "uniform".
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
    ) -> None:
        self.scale = number("scale", scale, above=0)
        self.mode = _one_of("mode", mode, ("fan_in", "fan_out", "fan_avg"))
        self.distribution = _one_of("distribution", distribution, _DISTRIBUTIONS)
        self.seed = _seed(seed)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, groups: int) -> np.ndarray:
        inputs, outputs = fans(shape, groups)
        by_mode = {"fan_in": inputs, "fan_out": outputs, "fan_avg": (inputs + outputs) / 2}
        variance = self.scale / by_mode[self.mode]
        if self.distribution == "truncated_normal":
            return math.sqrt(variance) / _DEVIATION_WITHIN_TWO * _within_two(rng, shape)
        if self.distribution == "untruncated_normal":
            return rng.normal(0.0, math.sqrt(variance), shape)
        limit = math.sqrt(3 * variance)
        return rng.uniform(-limit, limit, shape)


class _Uniform(VarianceScaling):
    rule: ClassVar[tuple[float, str]]

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(*self.rule, "uniform", seed)


class _Normal(VarianceScaling):
    """With `truncated` False values beyond two deviations stay, as in files of earlier versions."""

    rule: ClassVar[tuple[float, str]]

    def __init__(self, seed: int | None = None, truncated: bool = True) -> None:
        self.truncated = flag("truncated", truncated)
        kind = "truncated_normal" if self.truncated else "untruncated_normal"
        super().__init__(*self.rule, kind, seed)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        return super().from_config({"truncated": False, **config})


class GlorotUniform(_Uniform):
    """Uniform in ±√(6/(in + out)). Glorot and Bengio, 2010."""

    rule = (1.0, "fan_avg")


class GlorotNormal(_Normal):
    """Gaussian of variance 2/(in + out), truncated at two deviations. Glorot and Bengio, 2010."""

    rule = (1.0, "fan_avg")


class HeUniform(_Uniform):
    """Uniform in ±√(6/in), for ReLUs. He et al., 2015."""

    rule = (2.0, "fan_in")


class HeNormal(_Normal):
    """Gaussian of variance 2/in, truncated at two deviations, for ReLUs. He et al., 2015."""

    rule = (2.0, "fan_in")


class LecunUniform(_Uniform):
    """Uniform in ±√(3/in). LeCun et al., 1998."""

    rule = (1.0, "fan_in")


class LecunNormal(_Normal):
    """Gaussian of variance 1/in, truncated at two deviations, for SELUs. LeCun et al., 1998."""

    rule = (1.0, "fan_in")


class Orthogonal(Initializer):
    """`gain` times a matrix (all axes but the last, last) with orthonormal rows or columns.

    Saxe et al., 2013.
    """

    def __init__(self, gain: float = 1.0, seed: int | None = None) -> None:
        self.gain = number("gain", gain)
        self.seed = _seed(seed)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, groups: int) -> np.ndarray:
        if len(shape) < 2:
            raise ShapeError(f"Orthogonal: an array {shape} has no columns; use two axes or more")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
        q = q * np.where(np.diag(r) < 0, -1.0, 1.0)  # makes the decomposition unique
        return self.gain * (q.T if rows < columns else q).reshape(shape)


class Identity(Initializer):
    """`gain` times the identity matrix, for arrays of two axes."""

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = number("gain", gain)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, groups: int) -> np.ndarray:
        if len(shape) != 2:
            raise ShapeError(f"Identity: an array {shape} is no matrix; use another initializer")
        return self.gain * np.eye(*shape)


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


_DISTRIBUTIONS = ("truncated_normal", "untruncated_normal", "uniform")
_DEVIATION_WITHIN_TWO = 0.87962566103423978  # of a standard Gaussian cut at ±2


def _within_two(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Standard Gaussian values, drawn again where they are beyond ±2."""
    values = rng.normal(size=shape)
    while (beyond := np.abs(values) > 2).any():
        values[beyond] = rng.normal(size=int(beyond.sum()))
    return values


def _seed(seed: Any) -> int | None:
    return None if seed is None else whole("seed", seed, low=0)


def _one_of(name: str, value: Any, known: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in known:
        raise SettingError(f"{name}={show(value)}: use one of {', '.join(known)}")
    return value


_family = Family[Initializer]("initializer", Initializer, wrap=_Function)
_family.add(
    Zeros,
    Ones,
    Constant,
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
    VarianceScaling,
    GlorotUniform,
    GlorotNormal,
    HeNormal,
    HeUniform,
    LecunNormal,
    LecunUniform,
    Orthogonal,
    Identity,
    normal=RandomNormal,
    uniform=RandomUniform,
    zero=Zeros,
    one=Ones,
)

get = _family.get
from_config = _family.from_config
register = _family.register
