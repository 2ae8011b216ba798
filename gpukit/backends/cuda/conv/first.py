"""Launchers of kernels/conv/first.cu: convolution of images, one to four channels, many filters."""

from __future__ import annotations

from typing import Any, NamedTuple

from gpukit import primitives as p
from gpukit.backends.cuda.conv.shape import ConvShape, conv_shape
from gpukit.backends.cuda.linear.gemm import ACTIVATIONS, SUM_KERNELS, sum_parts
from gpukit.backends.cuda.runtime.common import contiguous, divide_up, empty_like, is_float
from gpukit.backends.cuda.runtime.tiling import Splits, split
from gpukit.device import device_of
from gpukit.launch.kernel import Kernel
from gpukit.primitives.windows import Conv

Array = Any

MOST_CHANNELS = 4
LEAST_FILTERS = 24  # below, half of the smallest tile would be empty
SHARED = 48 << 10  # bytes that a block has on every card without asking
EACH, ACROSS, GRADIENT_ROWS = 8, 8, 4  # as in the kernel
_CHUNK = 16  # rows of weights in shared memory at most
_TOGETHER = {4: 384, 8: 256}  # threads of the gradient on a multiprocessor, by bytes a number

_forward = Kernel("conv/first.cu", "conv2d_forward_first")
_weight = Kernel("conv/first.cu", "conv2d_weight_grad_first")


class Tile(NamedTuple):
    """Rows of pixels, or groups of eight rows of gw; and filters."""

    rows: int
    filters: int

    @property
    def threads(self) -> int:
        return self.rows * self.filters // EACH


TILES = (Tile(8, 96), Tile(16, 48), Tile(8, 64), Tile(16, 32))


def _padded(n: int, tile: int) -> int:
    return divide_up(n, tile) * tile


def _patch(shape: ConvShape, rows: int) -> int:
    """Numbers of x that a tile of `rows` × 8 pixels sees."""
    width = (ACROSS - 1) * shape.conv.stride[1] + shape.w[1]
    return ((rows - 1) * shape.conv.stride[0] + shape.w[0]) * width * shape.x[3]


def _chunk(shape: ConvShape) -> int:
    """Rows of weights a step: a row of the kernel in equal pieces."""
    depth = shape.w[1] * shape.w[2]
    return divide_up(depth, divide_up(depth, _CHUNK))


def forward_tile(shape: ConvShape, itemsize: int) -> tuple[Tile, int] | None:
    """The tile that wastes least, and its bytes of shared memory; None if none fits."""

    def cost(tile: Tile) -> int:
        return _padded(shape.y[1], tile.rows) * _padded(shape.filters, tile.filters)

    return _least(
        lambda tile: (_chunk(shape) * tile.filters + _patch(shape, tile.rows)) * itemsize, cost
    )


def gradient_tile(shape: ConvShape, itemsize: int) -> tuple[Tile, int] | None:
    """The same for the weight gradient."""

    def cost(tile: Tile) -> int:
        return _padded(shape.window, tile.rows * EACH) * _padded(shape.filters, tile.filters)

    pixels = GRADIENT_ROWS * ACROSS
    return _least(
        lambda tile: (pixels * tile.filters + _patch(shape, GRADIENT_ROWS)) * itemsize, cost
    )


def _least(shared: Any, cost: Any) -> tuple[Tile, int] | None:
    fitting = [tile for tile in TILES if shared(tile) <= SHARED]
    if not fitting:
        return None
    best = min(fitting, key=cost)
    return best, shared(best)


def _suits(shape: ConvShape) -> bool:
    return (
        shape.conv.groups == 1
        and shape.conv.dilation == (1, 1)
        and 1 <= shape.depth <= MOST_CHANNELS
        and shape.filters >= LEAST_FILTERS
    )


def _forward_fits(
    x: Array, w: Array, b: Array | None = None, *, conv: Conv, activation: str | None = None
) -> bool:
    shape = conv_shape(x.shape, w.shape, conv)
    return is_float(x, w, b) and _suits(shape) and forward_tile(shape, x.dtype.itemsize) is not None


@p.conv2d.on("cuda", name="first", supports=_forward_fits, kernels=(_forward,))
def _(
    x: Array, w: Array, b: Array | None = None, *, conv: Conv, activation: str | None = None
) -> Array:
    shape = conv_shape(x.shape, w.shape, conv).check()
    x, w, b = contiguous(x), contiguous(w), contiguous(b)
    y = empty_like(x, shape.y)
    if y.size == 0:
        return y
    tile, shared = _known(forward_tile(shape, x.dtype.itemsize))
    n, rows, columns, filters = shape.y
    pixels = n * divide_up(rows, tile.rows) * divide_up(columns, ACROSS)
    _forward.launch(
        (pixels, divide_up(filters, tile.filters)), tile.threads, x, w, b, y,
        shape.struct, _chunk(shape), shared=shared,
        T=x.dtype, ROWS=tile.rows, FILTERS=tile.filters, ACTIVATION=ACTIVATIONS[activation],
    )  # fmt: skip
    return y


def _gradient_fits(x: Array, gy: Array, *, kernel_shape: tuple[int, ...], conv: Conv) -> bool:
    shape = conv_shape(x.shape, tuple(kernel_shape), conv)
    return is_float(x, gy) and _suits(shape) and gradient_tile(shape, x.dtype.itemsize) is not None


@p.conv2d_weight_grad.on(
    "cuda", name="first", supports=_gradient_fits, kernels=(_weight, *SUM_KERNELS)
)
def _(x: Array, gy: Array, *, kernel_shape: tuple[int, ...], conv: Conv) -> Array:
    shape = conv_shape(x.shape, tuple(kernel_shape), conv).check()
    x, gy = contiguous(x), contiguous(gy)
    if shape.pixels == 0:
        return device_of(x).zeros(kernel_shape, x.dtype)
    gw = empty_like(x, kernel_shape)
    tile, shared = _known(gradient_tile(shape, x.dtype.itemsize))
    grid = (divide_up(shape.window, tile.rows * EACH), divide_up(shape.filters, tile.filters))
    n, rows, columns, _ = shape.y
    tiles = n * divide_up(rows, GRADIENT_ROWS) * divide_up(columns, ACROSS)
    ranges, each = split_gradient(tile, grid[0] * grid[1], tiles, gw.nbytes, x.dtype.itemsize)
    parts = gw if ranges == 1 else empty_like(gw, (ranges, gw.size))
    _weight.launch(
        (*grid, ranges), tile.threads, x, gy, parts, shape.struct, tiles, each, shared=shared,
        T=x.dtype, GROUPS=tile.rows, FILTERS=tile.filters,
    )  # fmt: skip
    if parts is not gw:
        sum_parts(parts, gw)
    return gw


def split_gradient(tile: Tile, blocks: int, tiles: int, part_bytes: int, itemsize: int) -> Splits:
    """Ranges of pixel tiles, from the shape alone: how many, and tiles of each."""
    pixels = GRADIENT_ROWS * ACROSS
    (ranges, length), _ = split(
        blocks,
        tiles * pixels,
        part_bytes,
        work=tile.rows * EACH * tile.filters,
        threads=tile.threads,
        together=_TOGETHER[itemsize] // tile.threads,
        step=pixels,
    )
    return Splits(ranges, length // pixels)


def _known(found: tuple[Tile, int] | None) -> tuple[Tile, int]:
    assert found is not None, "`supports` lets no other shapes through"
    return found
