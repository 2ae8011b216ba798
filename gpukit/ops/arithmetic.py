"""Arithmetic with NumPy's broadcasting, and functions element by element."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpukit.autograd import differentiable
from gpukit.backends import reference as p
from gpukit.errors import ShapeError


def sum_to(grad: Any, like: Any) -> Any:
    """`grad` summed over the axes along which `like` was broadcast."""
    shape = np.shape(like) if isinstance(like, (int, float)) else tuple(like.shape)
    if tuple(grad.shape) == shape:
        return grad
    lead = grad.ndim - len(shape)
    axes = tuple(range(lead)) + tuple(
        lead + i for i, n in enumerate(shape) if n == 1 and grad.shape[lead + i] != 1
    )
    return p.reshape(p.reduce_sum(grad, axis=axes, keepdims=True), shape=shape)


def _check(name: str, x: Any, y: Any) -> None:
    try:
        np.broadcast_shapes(getattr(x, "shape", ()), getattr(y, "shape", ()))
    except ValueError:
        raise ShapeError(
            f"{name}: shapes {tuple(x.shape)} and {tuple(y.shape)} do not broadcast"
        ) from None


@differentiable
def add(x: Any, y: Any) -> Any:
    """x + y."""
    _check("add", x, y)
    return p.add(x, y), (lambda gz: sum_to(gz, x), lambda gz: sum_to(gz, y))


@differentiable
def subtract(x: Any, y: Any) -> Any:
    """x − y."""
    _check("subtract", x, y)
    return p.subtract(x, y), (
        lambda gz: sum_to(gz, x),
        lambda gz: sum_to(p.negative(gz), y),
    )


@differentiable
def multiply(x: Any, y: Any) -> Any:
    """x · y, element by element."""
    _check("multiply", x, y)
    return p.multiply(x, y), (
        lambda gz: sum_to(p.multiply(gz, y), x),
        lambda gz: sum_to(p.multiply(gz, x), y),
    )


@differentiable
def divide(x: Any, y: Any) -> Any:
    """x / y."""
    _check("divide", x, y)
    z = p.divide(x, y)
    return z, (
        lambda gz: sum_to(p.divide(gz, y), x),
        lambda gz: sum_to(p.negative(p.divide(p.multiply(gz, z), y)), y),
    )


@differentiable
def power(x: Any, y: Any) -> Any:
    """x to the power y. The gradient for y needs x > 0."""
    _check("power", x, y)
    z = p.power(x, y)

    def gradient_of_base(gz: Any) -> Any:
        # y·x^(y−1), and 0 rather than 0·∞ where the exponent is 0.
        if isinstance(y, (int, float)):
            if y == 0:
                return p.multiply(sum_to(gz, x), 0.0)
            return sum_to(p.multiply(gz, p.multiply(p.power(x, y - 1), float(y))), x)
        return sum_to(p.multiply(gz, p.multiply(p.power(x, p.subtract(y, 1.0)), y)), x)

    def gradient_of_exponent(gz: Any) -> Any:
        base = p.log(x) if not isinstance(x, (int, float)) else float(np.log(x))
        return sum_to(p.multiply(gz, p.multiply(z, base)), y)

    return z, (gradient_of_base, gradient_of_exponent)


def _extreme(name: str, primitive: Any, x: Any, y: Any, larger: bool) -> Any:
    _check(name, x, y)
    z = primitive(x, y)

    def share(gz: Any, own: Any, other: Any) -> Any:
        # 1 where `own` won, one half where both are equal.
        difference = p.subtract(own, other) if larger else p.subtract(other, own)
        won = p.multiply(p.add(p.sign(difference), 1.0), 0.5)
        return sum_to(p.multiply(gz, won), own)

    return z, (lambda gz: share(gz, x, y), lambda gz: share(gz, y, x))


@differentiable
def maximum(x: Any, y: Any) -> Any:
    """The larger of x and y; at a tie each gets half the gradient."""
    return _extreme("maximum", p.maximum, x, y, larger=True)


@differentiable
def minimum(x: Any, y: Any) -> Any:
    """The smaller of x and y; at a tie each gets half the gradient."""
    return _extreme("minimum", p.minimum, x, y, larger=False)


@differentiable
def negative(x: Any) -> Any:
    """−x."""
    return p.negative(x), (p.negative,)


@differentiable
def exp(x: Any) -> Any:
    """e to the power x."""
    y = p.exp(x)
    return y, (lambda gy: p.multiply(gy, y),)


@differentiable
def log(x: Any) -> Any:
    """Natural logarithm."""
    return p.log(x), (lambda gy: p.divide(gy, x),)


@differentiable
def sqrt(x: Any) -> Any:
    """Square root."""
    y = p.sqrt(x)
    return y, (lambda gy: p.divide(p.multiply(gy, 0.5), y),)


@differentiable
def square(x: Any) -> Any:
    """x²."""
    return p.square(x), (lambda gy: p.multiply(gy, p.multiply(x, 2.0)),)


@differentiable
def absolute(x: Any) -> Any:
    """|x|; the gradient at 0 is 0."""
    return p.absolute(x), (lambda gy: p.multiply(gy, p.sign(x)),)
