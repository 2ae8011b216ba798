"""Sums over parts, in an order that does not depend on the threads."""

from __future__ import annotations

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cpu.runtime.common import Array, flat, is_float
from gpukit.backends.cpu.runtime.jit import at, jit
from gpukit.backends.cpu.runtime.threads import for_ranges, parallel_for, tasks_of

# Elements that are worth a task: some 50 µs of reading from memory.
_TASK_SIZE = 500_000


@jit
def _add_parts(parts, total, first, last):  # type: ignore[no-untyped-def]
    for i in range(first, last):
        total[at(i)] = parts[0, at(i)]
    for part in range(1, parts.shape[0]):
        for i in range(first, last):
            total[at(i)] += parts[at(part), at(i)]


def add_parts(parts: Array, total: Array) -> None:
    """total (size,) = parts[0] + parts[1] + …, in this order: parts (count, size)."""
    for_ranges(tasks_of(total.size, parts.size, _TASK_SIZE), _add_parts, parts, total)


@jit
def _column_sums(x, sums, first_row, last_row):  # type: ignore[no-untyped-def]
    """sums[K] (float64) = Σ over rows of x (rows, K), `repeat` rows side by side for short rows."""
    columns = len(sums)
    repeat = max(128 // columns, 1)
    blocks = (last_row - first_row) // repeat
    wide = np.zeros(columns * repeat)
    for block in range(blocks):
        start = (first_row + block * repeat) * columns
        for i in range(columns * repeat):
            wide[at(i)] += x[at(start + i)]
    for i in range(columns):
        sums[i] = 0
    for j in range(repeat):
        for i in range(columns):
            sums[i] += wide[at(j * columns + i)]
    for row in range(first_row + blocks * repeat, last_row):
        for i in range(columns):
            sums[i] += x[at(row * columns + i)]


def column_sums(x: Array) -> Array:
    """Σ over all axes but the last, added in float64: x (…,K) -> (K,) float64."""
    columns = x.shape[-1]
    rows = x.size // columns if columns else 0
    if rows == 0:
        return np.zeros(columns)
    pieces = tasks_of(rows, x.size, _TASK_SIZE)
    sums = np.empty((len(pieces), columns))
    values = flat(x)
    parallel_for(len(pieces), lambda i: _column_sums(values, sums[i], *pieces[i]))
    return sums[0] if len(pieces) == 1 else sums.sum(axis=0)


@p.bias_grad.on("cpu", name="columns", supports=is_float)
def _bias_grad(gy: Array) -> Array:
    return column_sums(gy).astype(gy.dtype)
