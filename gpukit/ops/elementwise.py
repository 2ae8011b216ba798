"""Arithmetic with NumPy's broadcasting, and functions element by element."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpukit import primitives as p
from gpukit.autograd import differentiable
from gpukit.errors import ShapeError

__all__ = [
    "absolute",
    "add",
    "divide",
    "exp",
    "log",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "power",
    "sqrt",
    "square",
    "subtract",
]


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
def add(x: Any, y: Any, *, algo: str | None = None) -> Any:
    """x + y."""
    _check("add", x, y)
    return p.add(x, y, algo=algo), (lambda gz: sum_to(gz, x), lambda gz: sum_to(gz, y))


@differentiable
def subtract(x: Any, y: Any, *, algo: str | None = None) -> Any:
    """x − y."""
    _check("subtract", x, y)
    return p.subtract(x, y, algo=algo), (
        lambda gz: sum_to(gz, x),
        lambda gz: sum_to(p.negative(gz), y),
    )


@differentiable
def multiply(x: Any, y: Any, *, algo: str | None = None) -> Any:
    """x · y, element by element."""
    _check("multiply", x, y)
    return p.multiply(x, y, algo=algo), (
        lambda gz: sum_to(p.multiply(gz, y, algo=algo), x),
        lambda gz: sum_to(p.multiply(gz, x, algo=algo), y),
    )


@differentiable
def divide(x: Any, y: Any, *, algo: str | None = None) -> Any:
    """x / y."""
    _check("divide", x, y)
    z = p.divide(x, y, algo=algo)
    return z, (
        lambda gz: sum_to(p.divide(gz, y, algo=algo), x),
        lambda gz: sum_to(p.negative(p.divide(p.multiply(gz, z), y, algo=algo)), y),
    )


@differentiable
def power(x: Any, y: Any, *, algo: str | None = None) -> Any:
    """x to the power y. The gradient for y needs x > 0."""
    _check("power", x, y)
    z = p.power(x, y, algo=algo)

    def gradient_of_base(gz: Any) -> Any:
        # y·x^(y−1), and 0 rather than 0·∞ where the exponent is 0.
        if isinstance(y, (int, float)):
            if y == 0:
                return p.multiply(sum_to(gz, x), 0.0)
            slope = p.multiply(p.power(x, y - 1, algo=algo), float(y))
        else:
            slope = p.multiply(p.power(x, p.subtract(y, 1.0), algo=algo), y)
        return sum_to(p.multiply(gz, slope), x)

    def gradient_of_exponent(gz: Any) -> Any:
        base = p.log(x) if not isinstance(x, (int, float)) else float(np.log(x))
        return sum_to(p.multiply(gz, p.multiply(z, base)), y)

    return z, (gradient_of_base, gradient_of_exponent)


def _extreme(name: str, primitive: Any, x: Any, y: Any, larger: bool, algo: str | None) -> Any:
    _check(name, x, y)
    z = primitive(x, y, algo=algo)

    def share(gz: Any, own: Any, other: Any) -> Any:
        # 1 where `own` won, one half where both are equal.
        difference = p.subtract(own, other) if larger else p.subtract(other, own)
        won = p.multiply(p.add(p.sign(difference), 1.0), 0.5)
        return sum_to(p.multiply(gz, won), own)

    return z, (lambda gz: share(gz, x, y), lambda gz: share(gz, y, x))


@differentiable
def maximum(x: Any, y: Any, *, algo: str | None = None) -> Any:
    """The larger of x and y; at a tie each gets half the gradient."""
    return _extreme("maximum", p.maximum, x, y, larger=True, algo=algo)


@differentiable
def minimum(x: Any, y: Any, *, algo: str | None = None) -> Any:
    """The smaller of x and y; at a tie each gets half the gradient."""
    return _extreme("minimum", p.minimum, x, y, larger=False, algo=algo)


@differentiable
def negative(x: Any, *, algo: str | None = None) -> Any:
    """−x."""
    return p.negative(x, algo=algo), (lambda gy: p.negative(gy, algo=algo),)


@differentiable
def exp(x: Any, *, algo: str | None = None) -> Any:
    """e to the power x."""
    y = p.exp(x, algo=algo)
    return y, (lambda gy: p.multiply(gy, y),)


@differentiable
def log(x: Any, *, algo: str | None = None) -> Any:
    """Natural logarithm."""
    return p.log(x, algo=algo), (lambda gy: p.divide(gy, x),)


@differentiable
def sqrt(x: Any, *, algo: str | None = None) -> Any:
    """Square root."""
    y = p.sqrt(x, algo=algo)
    return y, (lambda gy: p.divide(p.multiply(gy, 0.5), y),)


@differentiable
def square(x: Any, *, algo: str | None = None) -> Any:
    """x²."""
    return p.square(x, algo=algo), (lambda gy: p.multiply(gy, p.multiply(x, 2.0)),)


@differentiable
def absolute(x: Any, *, algo: str | None = None) -> Any:
    """|x|; the gradient at 0 is 0."""
    return p.absolute(x, algo=algo), (lambda gy: p.multiply(gy, p.sign(x)),)
