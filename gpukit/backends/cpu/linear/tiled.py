"""Fully connected layers by tiles of sums in registers, for batches.

y[m, n] = x[m, k] @ w[k, n]: of w, which is larger than all else, each value is read from memory
once. 256 rows × 256 columns at a time are packed into L2, 32 columns by 32, and meet 128 samples
there; the sums of these columns stay in L2 until the last rows have been added. At batch 32 this
takes 0.65 of the time of a BLAS call, which packs more than it computes.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from gpukit.backends.cpu.activation.piecewise import finish
from gpukit.backends.cpu.conv.tiled import tallest
from gpukit.backends.cpu.conv.tiling import registers
from gpukit.backends.cpu.runtime.common import ACTIVATIONS, FLOAT32, Array, flat
from gpukit.backends.cpu.runtime.jit import jit
from gpukit.backends.cpu.runtime.memory import empty, scratch
from gpukit.backends.cpu.runtime.threads import MOST_TASKS, cuts, parallel_for
from gpukit.backends.cpu.runtime.tile import TALLEST, tile
from gpukit.backends.cpu.runtime.vectors import VECTOR, copy_run

_VECTORS = 2
_TILE = _VECTORS * VECTOR
_COLUMNS, _ROWS, _SAMPLES = 256, 256, 128
# Samples lie this far apart in their buffer: not a power of two, which would share few cache sets.
_APART = _ROWS + VECTOR
_LEAST_SAMPLES, _LEAST_ROWS = 8, 256


@cache
def _product(pixels: int) -> Any:
    """Compiled: blocks of 256 columns of y, in tiles of `pixels` samples by 32 columns."""

    @jit
    def run(x, w, y, bias, shape, samples, weights, sums, first, last, activation):  # type: ignore[no-untyped-def]
        m, n, k = shape
        for block in range(first, last):
            column = block * _COLUMNS
            for sample in range(0, m, _SAMPLES):
                count = max(min(_SAMPLES, m - sample), pixels)
                start = min(sample, m - count)
                tiles = -(-count // pixels)
                for row in range(0, k, _ROWS):
                    rows = min(_ROWS, k - row)
                    for i in range(rows):
                        source = (row + i) * n + column
                        for j in range(_COLUMNS // _TILE):
                            copy_run(weights, (j * rows + i) * _TILE, w, source + j * _TILE, _TILE)
                    for i in range(count):
                        copy_run(samples, i * _APART, x, (start + i) * k + row, rows)
                    for j in range(_COLUMNS // _TILE):
                        for t in range(tiles):
                            # The last tile overlaps the one before; each has sums of its own.
                            own = min(t * pixels, count - pixels)
                            tile(
                                sums, (j * tiles + t) * pixels * _TILE, _TILE, row > 0,
                                samples, own * _APART, _APART, 1,
                                weights, j * rows * _TILE, _TILE, 1, 0, 1, 0, rows,
                                pixels, _VECTORS,
                            )  # fmt: skip
                for j in range(_COLUMNS // _TILE):
                    for t in range(tiles):
                        own = start + min(t * pixels, count - pixels)
                        for i in range(pixels):
                            source = ((j * tiles + t) * pixels + i) * _TILE
                            copy_run(y, (own + i) * n + column + j * _TILE, sums, source, _TILE)
            if len(bias) > 0 or activation > 0:
                part = bias if len(bias) == 0 else bias[column : column + _COLUMNS]
                finish(y[column:], m, _COLUMNS, n, part, activation)

    return run


def supports(x: Array, w: Array, *_: Any, **__: Any) -> bool:
    """Whether `dense` computes this: float32, whole blocks of columns, samples for a tile."""
    return (
        x.dtype == w.dtype == FLOAT32
        and x.shape[0] >= _LEAST_SAMPLES
        and w.shape[0] >= _LEAST_ROWS
        and w.shape[1] % _COLUMNS == 0
        and w.size > 0
        and registers()
    )


def dense(x: Array, w: Array, b: Array | None = None, *, activation: str | None = None) -> Array:
    """As the definition's dense."""
    m, n = x.shape[0], w.shape[1]
    shape = (m, n, w.shape[0])
    y = empty((m, n), x.dtype)
    pixels = tallest(min(m, _SAMPLES), TALLEST[_VECTORS])
    rows = -(-min(m, _SAMPLES) // pixels) * pixels
    blocks = n // _COLUMNS
    tasks = cuts(blocks, min(blocks, MOST_TASKS))
    left, right, out = flat(x), flat(w), y.reshape(-1)
    bias = empty((0,), x.dtype) if b is None else flat(b)
    loop, kind = _product(pixels), ACTIVATIONS[activation]

    def task(i: int) -> None:
        samples = scratch(rows * _APART, x.dtype)
        weights = scratch(_ROWS * _COLUMNS, x.dtype, slot=1)
        sums = scratch(rows * _COLUMNS, x.dtype, slot=2)
        loop(left, right, out, bias, shape, samples, weights, sums, *tasks[i], kind)

    parallel_for(len(tasks), task)
    return y
