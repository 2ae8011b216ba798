"""Launchers of kernels/linear.cu: matrix products, sums of their ranges, epilogues."""

from __future__ import annotations

from typing import NamedTuple

from gpukit.backends.cuda.runtime.common import BLOCK, address, divide_up, empty_like
from gpukit.backends.cuda.runtime.tiling import MOST_DEEP, THREADS, plan, tiles
from gpukit.errors import ShapeError
from gpukit.launch.kernel import Kernel
from gpukit.primitives.accumulate import Array

ACTIVATIONS = {None: 0, "relu": 1, "sigmoid": 2, "tanh": 3}
MOST = 2**31 - 2**16  # rows, columns, elements that an int counts, a tile more included

_gemm = Kernel("linear.cu", "gemm")
_split_sum = Kernel("linear.cu", "split_sum")
PRODUCT_KERNELS = (_gemm, _split_sum)
SUM_KERNELS = (_split_sum,)


class Operand(NamedTuple):
    """A row-major matrix, or a batch of them: rows `stride` elements apart, matrices `batch`.

    Rows of a `transposed` operand are what the product calls columns. Where rows are shorter than
    `stride`, zeros must follow them up to a multiple of 16 bytes.
    """

    array: Array
    stride: int
    batch: int = 0
    transposed: bool = False

    @property
    def packed(self) -> bool:
        """Whether every row of every matrix begins at a multiple of 16 bytes."""
        return is_packed(self.array, self.stride, self.batch)


def is_packed(array: Array, *steps: int) -> bool:
    """Whether `array` begins at a multiple of 16 bytes, and all `steps` (elements) keep to that."""
    item = array.dtype.itemsize
    for step in steps:
        if step * item % 16:
            return False
    return address(array) % 16 == 0


def product(
    a: Operand,
    b: Operand,
    out: Array,
    shape: tuple[int, int, int],
    *,
    stride: int | None = None,
    batches: int = 1,
    batch: int = 0,
    bias: Array | None = None,
    activation: str | None = None,
    accumulate: bool = False,
) -> None:
    """out = φ(op(a)[m, k] · op(b)[k, n] + bias), `shape` = (m, n, k); or out += the product.

    `out` has rows `stride` (n) apart and `batches` results `batch` elements apart, which together
    are the whole array; `bias` has n elements a batch.
    """
    m, n, k = shape
    if out.size == 0:
        return
    if max(m, n, k, a.stride, b.stride) > MOST:
        raise ShapeError(f"matrix product of m, n, k = {shape} is beyond {MOST}; cut it into parts")
    packed_a, packed_b = a.packed, b.packed
    packed = packed_a and packed_b
    tile, splits, _ = plan(m, n, batches, k, out.dtype.itemsize, packed, MOST_DEEP // batches)
    direct = splits.parts == 1 and not accumulate
    parts = out if direct else empty_like(out, (splits.parts, out.size))
    _gemm.launch(
        (tiles(m, n, tile), 1, batches * splits.parts), THREADS[tile],
        a.array, b.array, bias if direct else None, parts, m, n, k, a.stride, b.stride,
        n if stride is None else stride, a.batch, b.batch, batch, n,
        splits.parts, splits.length, out.size,
        T=out.dtype, TILE_M=tile.m, TILE_N=tile.n,
        TRANSPOSE_A=a.transposed, TRANSPOSE_B=b.transposed, PACKED_A=packed_a, PACKED_B=packed_b,
        ACTIVATION=ACTIVATIONS[activation] if direct else 0,
    )  # fmt: skip
    if not direct:
        sum_parts(parts, out, bias=bias, activation=activation, accumulate=accumulate)


def sum_parts(
    parts: Array,
    out: Array,
    *,
    bias: Array | None = None,
    activation: str | None = None,
    accumulate: bool = False,
) -> None:
    """out = φ(bias + [out +] parts[0] + parts[1] + …) in this order; bias along the last axis."""
    _split_sum.launch(
        divide_up(out.size, BLOCK), BLOCK, parts, bias, out, out.size,
        out.shape[-1], parts.shape[0], accumulate,
        T=out.dtype, ACTIVATION=ACTIVATIONS[activation],
    )  # fmt: skip


def finish(out: Array, bias: Array | None, activation: str | None) -> None:
    """out = φ(out + bias), bias along the last axis: for products made elsewhere."""
    if bias is None and activation is None:
        return
    _split_sum.launch(  # of no parts: the first array is not read
        divide_up(out.size, BLOCK), BLOCK, out, bias, out, out.size, out.shape[-1], 0, True,
        T=out.dtype, ACTIVATION=ACTIVATIONS[activation],
    )  # fmt: skip
