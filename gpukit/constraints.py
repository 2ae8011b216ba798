"""Constraints: project weights back into a set after each optimiser step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpukit.autograd.results import check_made
from gpukit.core.config import Configurable, Family, number, show
from gpukit.errors import SettingError

EPSILON = 1e-7  # keeps a division by the norm of an all-zero filter harmless


class Constraint(Configurable):
    """Base of all constraints: called with an array, gives the allowed one, on its device."""

    def __call__(self, w: Any) -> Any:
        raise NotImplementedError


class MaxNorm(Constraint):
    """Scale down what has a norm above `max_value`; the norm is taken over `axis`.

    Axis 0 of a dense kernel (in, out) is the incoming weights of a unit; a convolution's filters
    need (0, 1, 2).
    """

    def __init__(self, max_value: float = 2.0, axis: int | Sequence[int] = 0) -> None:
        self.max_value = number("max_value", max_value, low=0)
        self.axis = _axes(axis)

    def __call__(self, w: Any) -> Any:
        norms = _norms(w, self.axis)
        return np.where(norms > self.max_value, w * (self.max_value / (norms + EPSILON)), w)


class UnitNorm(Constraint):
    """Scale to norm 1 over `axis`."""

    def __init__(self, axis: int | Sequence[int] = 0) -> None:
        self.axis = _axes(axis)

    def __call__(self, w: Any) -> Any:
        return w / (_norms(w, self.axis) + EPSILON)


class NonNeg(Constraint):
    """Negative weights become 0."""

    def __call__(self, w: Any) -> Any:
        return np.where(w < 0, np.zeros_like(w), w)


class _Function(Constraint):
    """A user's function from an array to an array of the same shape."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __call__(self, w: Any) -> Any:
        allowed = self.function(w)
        check_made(f"constraint {getattr(self.function, '__name__', '')}", allowed, w, w.shape)
        return allowed


def _axes(axis: int | Sequence[int]) -> int | tuple[int, ...]:
    if isinstance(axis, (int, np.integer)) and not isinstance(axis, bool):
        return int(axis)
    if isinstance(axis, (tuple, list)) and all(isinstance(a, (int, np.integer)) for a in axis):
        return tuple(int(a) for a in axis)
    raise SettingError(f"axis={show(axis)}: use a whole number or a tuple of them")


def _norms(w: Any, axis: int | tuple[int, ...]) -> Any:
    return np.sqrt(np.sum(np.square(w), axis=axis, keepdims=True))


max_norm = MaxNorm
non_neg = NonNeg
unit_norm = UnitNorm

_family = Family[Constraint]("constraint", Constraint, wrap=_Function)
_family.add(MaxNorm, NonNeg, UnitNorm, nonneg=NonNeg, maxnorm=MaxNorm)

get = _family.get_if_given
from_config = _family.from_config
register = _family.register
