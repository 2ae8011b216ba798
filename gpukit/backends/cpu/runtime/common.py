"""What every family of CPU implementations needs: accepted dtypes, plain buffers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)

ACTIVATIONS: dict[str | None, int] = {None: 0, "relu": 1, "sigmoid": 2, "tanh": 3}


def is_float(x: Any) -> bool:
    """Whether compiled code takes this array: native float32 or float64."""
    dtype = x.dtype
    return bool(dtype in (FLOAT32, FLOAT64))


def same_floats(*arrays: Any, **_: Any) -> bool:
    """Whether all are arrays of one dtype that compiled code takes (None counts for any)."""
    first = arrays[0].dtype
    if first not in (FLOAT32, FLOAT64):
        return False
    for a in arrays[1:]:  # noqa: SIM110  (a generator takes twice as long)
        if a is not None and a.dtype != first:
            return False
    return True


def filled_floats(*arrays: Any, **_: Any) -> bool:
    """As `same_floats`, and the first of them is not empty."""
    return arrays[0].size > 0 and same_floats(*arrays)


class _Alias:
    """Memory of an array, without its read-only flag; keeps the array alive."""

    __slots__ = ("__array_interface__", "array")

    def __init__(self, array: Array) -> None:
        address = array.__array_interface__["data"][0]
        self.array = array
        self.__array_interface__ = {
            "version": 3,
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (address, False),
        }


def plain(x: Array) -> Array:
    """`x` in C order, aligned, not marked read-only: what compiled code takes; copied if need be.

    Numba compiles once more for read-only arguments, and arrays of the tape are read-only. So those
    are passed as an alias of the same memory, which inputs' readers must not (and do not) write to.
    """
    flags = x.flags
    if flags.carray:
        return x
    if flags.c_contiguous and flags.aligned:
        return np.asarray(_Alias(x)) if x.size else np.zeros(x.shape, x.dtype)
    return np.array(x, order="C")


def flat(x: Array) -> Array:
    """`plain(x)` as one dimension, so that compiled code sees one type whatever the shape."""
    return plain(x).reshape(-1)
