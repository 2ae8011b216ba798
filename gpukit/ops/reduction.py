"""Sums, means and extremes over axes."""

from __future__ import annotations

import math
from typing import Any

from gpukit import primitives as p
from gpukit.autograd import differentiable
from gpukit.autograd.results import operand
from gpukit.core.config import whole
from gpukit.errors import ShapeError

__all__ = ["all_finite", "argmax", "max", "mean", "sum"]

Axis = int | tuple[int, ...] | None


def _axes(name: str, axis: Axis, ndim: int) -> tuple[int, ...]:
    chosen = tuple(range(ndim)) if axis is None else (axis,) if isinstance(axis, int) else axis
    if any(not -ndim <= a < ndim for a in chosen):
        raise ShapeError(f"{name}: axis {axis} does not exist in an array of {ndim} axes")
    return tuple(sorted({a % ndim for a in chosen}))


def _spread(grad: Any, shape: tuple[int, ...], axes: tuple[int, ...]) -> Any:
    """A gradient over the kept axes, repeated over the reduced ones."""
    if axes != tuple(range(len(axes))):  # axes in front need not be there to be repeated
        kept = tuple(1 if i in axes else n for i, n in enumerate(shape))
        grad = p.reshape(grad, shape=kept)
    return p.broadcast_to(grad, shape=shape)


@differentiable
def sum(x: Any, *, axis: Axis = None, keepdims: bool = False, algo: str | None = None) -> Any:
    """Sum over `axis` (all axes by default)."""
    axes, shape = _axes("sum", axis, x.ndim), tuple(x.shape)
    y = p.reduce_sum(x, axis=axes, keepdims=keepdims, algo=algo)
    return y, (lambda gy: _spread(gy, shape, axes),)


@differentiable
def mean(x: Any, *, axis: Axis = None, keepdims: bool = False, algo: str | None = None) -> Any:
    """Mean over `axis` (all axes by default)."""
    axes, shape = _axes("mean", axis, x.ndim), tuple(x.shape)
    count = math.prod(shape[a] for a in axes) or 1
    y = p.reduce_mean(x, axis=axes, keepdims=keepdims, algo=algo)
    return y, (lambda gy: _spread(p.multiply(gy, 1.0 / count), shape, axes),)


@differentiable
def max(x: Any, *, axis: Axis = None, keepdims: bool = False, algo: str | None = None) -> Any:
    """Largest value over `axis` (all axes by default); ties share the gradient."""
    axes, shape = _axes("max", axis, x.ndim), tuple(x.shape)
    if any(shape[a] == 0 for a in axes):
        raise ShapeError(f"max: {shape} has nothing along axis {axis}")
    y = p.reduce_max(x, axis=axes, keepdims=keepdims, algo=algo)

    def gradient(gy: Any) -> Any:
        # 1 where x is the maximum (x − y is 0 there and negative elsewhere), shared by ties.
        won = p.add(p.sign(p.subtract(x, _spread(y, shape, axes))), 1.0)
        ties = p.reduce_sum(won, axis=axes, keepdims=True)
        return p.divide(p.multiply(_spread(gy, shape, axes), won), ties)

    return y, (gradient,)


def argmax(x: Any, *, axis: int = -1, algo: str | None = None) -> Any:
    """Position of the first largest value along `axis`: int64, no gradient, an array."""
    array = operand("argmax", x)
    (at,) = _axes("argmax", whole("argmax: axis", axis, low=None), array.ndim)
    if array.shape[at] == 0:
        raise ShapeError(f"argmax: {tuple(array.shape)} has nothing along axis {axis}")
    return p.argmax(array, axis=at, algo=algo)


def all_finite(x: Any, *, algo: str | None = None) -> Any:
    """Whether x has no NaN and no infinity: a bool array of shape (), on the device of x.

    Asking costs no wait, bool() of the answer does.
    """
    return p.all_finite(operand("all_finite", x), algo=algo)
