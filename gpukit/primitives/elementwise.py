"""Arithmetic element by element, with NumPy's broadcasting.

One operand of a binary function may be a Python or NumPy scalar instead of an array of the same
dtype; scalars take the array's dtype (float32·np.sqrt(2) stays float32). Results keep the dtype.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpukit.dispatch.primitive import primitive
from gpukit.primitives.accumulate import Array


def _operand(value: Any) -> Any:
    """NumPy scalars as Python ones, which never promote an array."""
    return value.item() if isinstance(value, np.generic) else value


@primitive
def add(x: Array, y: Array) -> Array:
    """x + y."""
    return np.add(_operand(x), _operand(y))


@primitive
def subtract(x: Array, y: Array) -> Array:
    """x - y."""
    return np.subtract(_operand(x), _operand(y))


@primitive
def multiply(x: Array, y: Array) -> Array:
    """x·y."""
    return np.multiply(_operand(x), _operand(y))


@primitive
def divide(x: Array, y: Array) -> Array:
    """x / y; IEEE 754 infinities and NaN on zero."""
    return np.divide(_operand(x), _operand(y))


@primitive
def power(x: Array, y: Array) -> Array:
    """x to the y."""
    return np.power(_operand(x), _operand(y))


@primitive
def maximum(x: Array, y: Array) -> Array:
    """The larger of x and y; NaN if either is."""
    return np.maximum(_operand(x), _operand(y))


@primitive
def minimum(x: Array, y: Array) -> Array:
    """The smaller of x and y; NaN if either is."""
    return np.minimum(_operand(x), _operand(y))


@primitive
def negative(x: Array) -> Array:
    """-x."""
    return np.negative(x)


@primitive
def exp(x: Array) -> Array:
    """e to the x."""
    return np.exp(x)


@primitive
def log(x: Array) -> Array:
    """Natural logarithm; -inf at 0, NaN below."""
    return np.log(x)


@primitive
def sqrt(x: Array) -> Array:
    """Square root; NaN below 0."""
    return np.sqrt(x)


@primitive
def square(x: Array) -> Array:
    """x²."""
    return np.square(x)


@primitive
def absolute(x: Array) -> Array:
    """|x|."""
    return np.abs(x)


@primitive
def sign(x: Array) -> Array:
    """-1, 0 or 1 in the dtype of x; NaN stays NaN."""
    return np.sign(x)
