"""Whether all numbers of an array are finite, without an array of answers in between."""

from __future__ import annotations

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cpu.runtime.common import Array, flat, is_float
from gpukit.backends.cpu.runtime.jit import at, jit
from gpukit.backends.cpu.runtime.threads import parallel_for, tasks_of


@jit
def _count(x, first, last):  # type: ignore[no-untyped-def]
    """How many of x[first:last] are not finite; x - x is 0 for numbers, NaN for the others."""
    count = 0
    for i in range(first, last):
        v = x[at(i)]
        count += v - v != 0
    return count


@p.all_finite.on("cpu", name="numba", supports=is_float)
def _(x: Array) -> Array:
    source, pieces = flat(x), tasks_of(x.size, x.size)
    counts = [0] * len(pieces)

    def count(i: int) -> None:
        counts[i] = _count(source, *pieces[i])

    parallel_for(len(pieces), count)
    return np.asarray(sum(counts) == 0)
