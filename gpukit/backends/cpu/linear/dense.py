"""Fully connected layers and matrix products: one-thread GEMMs over blocks of the result.

Forward with float32 batches on AVX-512 is linear/tiled.py's.
"""

from __future__ import annotations

from gpukit import primitives as p
from gpukit.backends.cpu.activation.piecewise import bias_pattern, finish
from gpukit.backends.cpu.linear import tiled as tiled_dense
from gpukit.backends.cpu.runtime.blas import gemm
from gpukit.backends.cpu.runtime.common import ACTIVATIONS, Array, flat, same_floats
from gpukit.backends.cpu.runtime.jit import jit
from gpukit.backends.cpu.runtime.memory import empty
from gpukit.backends.cpu.runtime.threads import MOST_TASKS, Ranges, parallel_for

# A block is worth at least this many multiply-adds (some 50 µs); there are at most so many blocks.
_TASK_WORK = 4_000_000
# Narrower blocks waste the GEMM's registers; the step keeps blocks at whole vectors.
_LEAST_WIDTH = 64
_STEP = 16


@jit
def _block(transpose_a, transpose_b, a, b, c, shape, rows, columns, bias, activation):  # type: ignore[no-untyped-def]
    """c[rows, columns] = activation(a @ b + bias) for ranges of rows and columns of c[m, n]."""
    m, n, k = shape
    first_row, last_row = rows
    first, last = columns
    left = a[first_row if transpose_a else first_row * k :], m if transpose_a else k
    right = b[first * k if transpose_b else first :], k if transpose_b else n
    block = c[first_row * n + first :]
    size = last_row - first_row, last - first, k
    gemm(transpose_a, transpose_b, size, left, right, 0, (block, n))
    if len(bias) > 0 or activation > 0:
        own = bias if len(bias) == 0 or last - first == n else bias[first:last]
        finish(block, last_row - first_row, last - first, n, own, activation)


def _blocks(units: int, count: int) -> Ranges:
    """`units` in about `count` ranges, each a multiple of `_STEP` long but the last."""
    width = max(-(-units // max(count, 1)), _LEAST_WIDTH)
    width = -(-width // _STEP) * _STEP
    return [(first, min(first + width, units)) for first in range(0, units, width)]


def _product(
    a: Array,
    b: Array,
    shape: tuple[int, int, int],
    transpose_a: bool = False,
    transpose_b: bool = False,
    bias: Array | None = None,
    activation: int = 0,
) -> Array:
    """activation(op(a)[m, k] @ op(b)[k, n] + bias) -> (m, n); `shape` is (m, n, k)."""
    m, n, k = shape
    c = empty((m, n), a.dtype)
    if c.size == 0:
        return c
    if k == 0:
        c[...] = 0
    count = min(max(m * n * k // _TASK_WORK, 1), MOST_TASKS)
    # The longer side is cut: the shorter operand is then packed for every block, which is cheap.
    rows, columns = [(0, m)], [(0, n)]
    if count > 1 and m > n:
        rows = _blocks(m, count)
    elif count > 1:
        columns = _blocks(n, count)
    left, right, out = flat(a), flat(b), c.reshape(-1)
    pattern = bias_pattern(bias, a.dtype) if len(columns) == 1 or bias is None else flat(bias)

    def task(i: int) -> None:
        row, column = divmod(i, len(columns))
        _block(
            transpose_a, transpose_b, left, right, out, shape,
            rows[row], columns[column], pattern, activation,
        )  # fmt: skip

    parallel_for(len(rows) * len(columns), task)
    return c


p.dense.on("cpu", name="tiled", supports=tiled_dense.supports)(tiled_dense.dense)


@p.dense.on("cpu", name="gemm", supports=same_floats)
def _(x: Array, w: Array, b: Array | None = None, *, activation: str | None = None) -> Array:
    shape = (x.shape[0], w.shape[1], w.shape[0])
    return _product(x, w, shape, bias=b, activation=ACTIVATIONS[activation])


@p.dense_input_grad.on("cpu", name="gemm", supports=same_floats)
def _(gy: Array, w: Array) -> Array:
    return _product(gy, w, (gy.shape[0], w.shape[0], w.shape[1]), transpose_b=True)


@p.dense_weight_grad.on("cpu", name="gemm", supports=same_floats)
def _(x: Array, gy: Array) -> Array:
    return _product(x, gy, (x.shape[1], gy.shape[1], x.shape[0]), transpose_a=True)


@p.matmul.on("cpu", name="gemm", supports=same_floats)
def _(a: Array, b: Array) -> Array:
    return _product(a, b, (a.shape[0], b.shape[1], a.shape[1]))
