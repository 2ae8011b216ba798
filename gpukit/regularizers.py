"""Penalties on kernels, biases and activities, added to the loss that training reports."""

from __future__ import annotations

from collections.abc import Callable

from gpukit import ops
from gpukit.autograd import Tensor
from gpukit.autograd.results import check_made
from gpukit.core.config import Configurable, Family, number


class Regularizer(Configurable):
    """Base of all penalties: called with a Tensor, gives a Tensor of shape ()."""

    def __call__(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class L1L2(Regularizer):
    """l1·Σ|x| + l2·Σx², without a factor ½."""

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        self.l1 = number("l1", l1, low=0)
        self.l2 = number("l2", l2, low=0)

    def __call__(self, x: Tensor) -> Tensor:
        if self.l1 and self.l2:
            return _absolute(x, self.l1) + _square(x, self.l2)
        return _absolute(x, self.l1) if self.l1 else _square(x, self.l2)


class L1(Regularizer):
    """l1·Σ|x|: drives small weights to zero."""

    def __init__(self, l1: float = 0.01) -> None:
        self.l1 = number("l1", l1, low=0)

    def __call__(self, x: Tensor) -> Tensor:
        return _absolute(x, self.l1)


class L2(Regularizer):
    """l2·Σx²: its gradient is 2·l2·x."""

    def __init__(self, l2: float = 0.01) -> None:
        self.l2 = number("l2", l2, low=0)

    def __call__(self, x: Tensor) -> Tensor:
        return _square(x, self.l2)


class _Function(Regularizer):
    """A user's function from a Tensor to a Tensor of one element."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function

    def __call__(self, x: Tensor) -> Tensor:
        penalty = self.function(x)
        check_made(f"regularizer {getattr(self.function, '__name__', '')}", penalty, x, ())
        return penalty


l1 = L1
l2 = L2


def l1_l2(l1: float = 0.01, l2: float = 0.01) -> L1L2:
    """l1·Σ|x| + l2·Σx²."""
    return L1L2(l1, l2)


def _absolute(x: Tensor, factor: float) -> Tensor:
    return ops.sum(ops.absolute(x)) * factor


def _square(x: Tensor, factor: float) -> Tensor:
    return ops.sum(ops.square(x)) * factor


_family = Family[Regularizer]("regularizer", Regularizer, wrap=_Function)
_family.add(L1, L2, L1L2, l1_l2=l1_l2)

get = _family.get_if_given
from_config = _family.from_config
register = _family.register
