"""Launchers of kernels/gemm.cu: tiles, splits and workspaces chosen from shape and alignment alone.

The same shape, with operands that begin at multiples of 16 bytes or do not, gives the same launches
on every card, and so the same bits.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from gpukit.backends.cuda.common import BLOCK, divide_up, empty_like
from gpukit.backends.kernel import Kernel
from gpukit.errors import ShapeError

Array = Any
Tile = tuple[int, int]

ACTIVATIONS = {None: 0, "relu": 1, "sigmoid": 2, "tanh": 3}
MOST = 2**31 - 2**16  # rows, columns, elements that an int counts, a tile more included
MOST_DEEP = 65535  # blocks along z

LARGE, SQUARE, SLIM = (128, 128), (64, 64), (128, 16)
THREADS = {LARGE: 256, SQUARE: 256, SLIM: 128}
_SLIM_UP_TO = 32  # columns; 64×64 would leave half of itself empty
_FULL = 132  # blocks: a large tile pays once it occupies the multiprocessors of a large card
_WANTED = 264  # blocks that split-K works towards: two for each of these
_SHORTEST, _LONGEST = 256, 16384  # range of k a block: worth a launch; what float32 adds up well
_K_STEP = 16  # ranges begin at whole steps of every tile
PARTS_BYTES = 64 << 20  # of partial sums together, unless one alone is larger

_gemm = Kernel("gemm.cu", "gemm")
_split_sum = Kernel("gemm.cu", "split_sum")


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


class Splits(NamedTuple):
    """k cut into `parts` ranges of `length`, the last perhaps shorter."""

    parts: int
    length: int


def address(array: Array) -> int:
    """Where the elements of an array of a card, or of the emulator, begin."""
    data = array.data
    return int(data.ptr if hasattr(data, "ptr") else data.__array_interface__["data"][0])


def is_packed(array: Array, *steps: int) -> bool:
    """Whether `array` begins at a multiple of 16 bytes, and all `steps` (elements) keep to that."""
    item = array.dtype.itemsize
    for step in steps:
        if step * item % 16:
            return False
    return address(array) % 16 == 0


@lru_cache(maxsize=1024)
def choose_tile(m: int, n: int, batch: int, itemsize: int, packed: bool) -> Tile:
    """The tile of a result (m, n): `batch` of them, operands in packs of 16 bytes or not."""
    if n <= _SLIM_UP_TO:
        return SLIM
    large = divide_up(m, LARGE[0]) * divide_up(n, LARGE[1]) * batch
    return LARGE if packed and itemsize == 4 and n > SQUARE[1] and large >= _FULL else SQUARE


def tiles(m: int, n: int, tile: Tile) -> int:
    """Blocks for one result (m, n)."""
    return divide_up(m, tile[0]) * divide_up(n, tile[1])


@lru_cache(maxsize=1024)
def choose_splits(blocks: int, k: int, part_bytes: int, most: int = MOST_DEEP) -> Splits:
    """Ranges of k that fill a card and keep float32 sums short, for parts of `part_bytes` each."""
    wanted = max(divide_up(_WANTED, max(blocks, 1)), divide_up(k, _LONGEST))
    affordable = max(PARTS_BYTES // max(part_bytes, 1), 1)
    count = max(min(wanted, k // _SHORTEST, affordable, most), 1)
    length = max(divide_up(divide_up(k, count), _K_STEP), 1) * _K_STEP
    return Splits(max(divide_up(k, length), 1), length)


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
    tile = choose_tile(m, n, batches, a.array.dtype.itemsize, packed_a and packed_b)
    blocks = tiles(m, n, tile)
    splits = choose_splits(blocks * batches, k, out.nbytes, MOST_DEEP // batches)
    direct = splits.parts == 1 and not accumulate
    parts = out if direct else empty_like(out, (splits.parts, out.size))
    _gemm.launch(
        (blocks, 1, batches * splits.parts), THREADS[tile],
        a.array, b.array, bias if direct else None, parts, m, n, k, a.stride, b.stride,
        n if stride is None else stride, a.batch, b.batch, batch, n,
        splits.parts, splits.length, out.size,
        T=out.dtype, TILE_M=tile[0], TILE_N=tile[1],
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
