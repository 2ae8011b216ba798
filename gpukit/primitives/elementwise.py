"""Arithmetic element by element, with NumPy's broadcasting.

One operand of a binary function may be a Python or NumPy scalar instead of an array of the same
dtype; scalars take the array's dtype (float32·np.sqrt(2) stays float32). Results keep the dtype.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpukit.dispatch.primitive import primitive
from gpukit.primitives.accumulate import Array
from gpukit.primitives.calls import between, binary, normal, unary


def _operand(value: Any) -> Any:
    """NumPy scalars as Python ones, which never promote an array."""
    return value.item() if isinstance(value, np.generic) else value


@primitive(binary("a + b", exact="whole"))
def add(x: Array, y: Array) -> Array:
    """x + y."""
    return np.add(_operand(x), _operand(y))


@primitive(binary("a - b", exact="whole"))
def subtract(x: Array, y: Array) -> Array:
    """x - y."""
    return np.subtract(_operand(x), _operand(y))


@primitive(binary("a * b", exact="whole"))
def multiply(x: Array, y: Array) -> Array:
    """x·y."""
    return np.multiply(_operand(x), _operand(y))


@primitive(binary("a / b", numbers=(normal, between(0.5, 2)), positive=True))
def divide(x: Array, y: Array) -> Array:
    """x / y; IEEE 754 infinities and NaN on zero."""
    return np.divide(_operand(x), _operand(y))


@primitive(
    binary(
        "pow(a, b)", numbers=(between(0.5, 2), normal), positive=True, torch=lambda torch: torch.pow
    )
)
def power(x: Array, y: Array) -> Array:
    """x to the y."""
    return np.power(_operand(x), _operand(y))


@primitive(binary("a > b || a != a ? a : b", holes=True, exact="always"))
def maximum(x: Array, y: Array) -> Array:
    """The larger of x and y; NaN if either is."""
    return np.maximum(_operand(x), _operand(y))


@primitive(binary("a < b || a != a ? a : b", holes=True, exact="always"))
def minimum(x: Array, y: Array) -> Array:
    """The smaller of x and y; NaN if either is."""
    return np.minimum(_operand(x), _operand(y))


@primitive(unary("-v", holes=True, exact="always"))
def negative(x: Array) -> Array:
    """-x."""
    return np.negative(x)


@primitive(unary("exp(v)"))
def exp(x: Array) -> Array:
    """e to the x."""
    return np.exp(x)


@primitive(unary("log(v)", numbers=between(0.5, 4), positive=True))
def log(x: Array) -> Array:
    """Natural logarithm; -inf at 0, NaN below."""
    return np.log(x)


@primitive(unary("sqrt(v)", numbers=between(0.5, 4), positive=True))
def sqrt(x: Array) -> Array:
    """Square root; NaN below 0."""
    return np.sqrt(x)


@primitive(unary("v * v", exact="whole"))
def square(x: Array) -> Array:
    """x²."""
    return np.square(x)


@primitive(unary("v < T(0) ? -v : v", holes=True, exact="always"))
def absolute(x: Array) -> Array:
    """|x|."""
    return np.abs(x)


@primitive(unary("v > T(0) ? T(1) : v < T(0) ? T(-1) : v", holes=True, exact="always"))
def sign(x: Array) -> Array:
    """-1, 0 or 1 in the dtype of x; NaN stays NaN."""
    return np.sign(x)
