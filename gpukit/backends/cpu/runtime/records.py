"""Numbers that compiled code reads by name."""

from __future__ import annotations

from functools import cache

import numpy as np

from gpukit.backends.cpu.runtime.common import Array


def record(**numbers: int) -> Array:
    """An array of one record of int64: compiled code reads `numbers[0].name`.

    A tuple with names would do, but Numba takes it apart at each call, which costs 4 µs.
    """
    return np.array([tuple(numbers.values())], _layout(tuple(numbers)))


@cache
def _layout(names: tuple[str, ...]) -> np.dtype:
    return np.dtype([(name, np.int64) for name in names])
