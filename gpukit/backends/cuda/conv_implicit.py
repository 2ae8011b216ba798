"""Convolution by tiles of a panel that exists in shared memory only: kernels/conv_implicit.cu.

By name ("implicit") for every shape. Unasked, forward passes and input gradients come here whose
tiles leave most of a card idle and whose sums are long: they are cut along k. No card has confirmed
where the line lies.
"""

from __future__ import annotations

from typing import Any

from gpukit.backends import reference as p
from gpukit.backends.cuda.common import contiguous, divide_up, empty_like, is_float
from gpukit.backends.cuda.conv_shape import ConvShape, conv_shape, deep
from gpukit.backends.cuda.gemm import (
    ACTIVATIONS,
    LARGE,
    MOST_DEEP,
    SQUARE,
    THREADS,
    Splits,
    choose_splits,
    choose_tile,
    is_packed,
    sum_parts,
    tiles,
)
from gpukit.backends.kernel import Kernel
from gpukit.backends.reference.windows import Padding, Pair
from gpukit.device import device_of

Array = Any

_FEW = 66  # blocks: half the multiprocessors of a large card
_STEP = 16  # k of a step
_NARROW = 4  # columns up to which "direct" has kernels that need no tiles

_forward = Kernel("conv_implicit.cu", "implicit_forward")
_input = Kernel("conv_implicit.cu", "implicit_input_grad")
_weight = Kernel("conv_implicit.cu", "implicit_weight_grad")


def splits_for(blocks: int, k: int, part_bytes: int, most: int) -> Splits:
    """One range of k where the tiles fill a card, else several."""
    if blocks > _FEW:
        return Splits(1, max(divide_up(k, _STEP), 1) * _STEP)
    return choose_splits(blocks, k, part_bytes, most)


def forward(x: Array, w: Array, b: Array | None, shape: ConvShape, activation: str | None) -> Array:
    """y of `shape`, with bias and activation, for contiguous arrays."""
    y = empty_like(x, shape.y)
    for images in shape.runs() if y.size else ():
        part = shape.part(images)
        _forward_run(x[images], w, b, y[images], part, activation)
    return y


def _forward_run(
    x: Array, w: Array, b: Array | None, y: Array, shape: ConvShape, activation: str | None
) -> None:
    m, n, groups = shape.pixels, shape.filters, shape.groups
    packed_x, packed_w = is_packed(x, shape.depth), is_packed(w, n)
    tile = choose_tile(m, n, groups, x.dtype.itemsize, packed_x and packed_w)
    blocks, z = tiles(m, n, tile), deep(groups, shape)
    splits = splits_for(blocks * groups, shape.window, y.nbytes, MOST_DEEP // z)
    whole = splits.parts == 1
    parts = y if whole else empty_like(y, (splits.parts, y.size))
    _forward.launch(
        (blocks, 1, z * splits.parts), THREADS[tile], x, w, b if whole else None, parts,
        *shape.numbers, *splits, y.size, T=x.dtype, TILE_M=tile[0], TILE_N=tile[1],
        PACKED_X=packed_x, PACKED_W=packed_w, ACTIVATION=ACTIVATIONS[activation] if whole else 0,
    )  # fmt: skip
    if not whole:
        sum_parts(parts, y, bias=b, activation=activation)


def input_grad(gy: Array, w: Array, shape: ConvShape) -> Array:
    """gx of `shape`, for contiguous arrays."""
    gx = empty_like(gy, shape.x)
    for images in shape.runs() if gx.size else ():
        _input_run(gy[images], w, gx[images], shape.part(images))
    return gx


def _input_run(gy: Array, w: Array, gx: Array, shape: ConvShape) -> None:
    m, n, batch = shape.phase_pixels, shape.depth, shape.groups * shape.phases
    packed = is_packed(gy, shape.filters) and is_packed(w)
    tile = choose_tile(m, n, batch, gy.dtype.itemsize, packed)
    tile = SQUARE if tile == LARGE else tile  # the large one would spill on sm_100 and sm_120
    blocks, z = tiles(m, n, tile), deep(batch, shape)
    splits = splits_for(blocks * batch, shape.phase_window, gx.nbytes, MOST_DEEP // z).parts
    parts = gx if splits == 1 else empty_like(gx, (splits, gx.size))
    _input.launch(
        (blocks, 1, z * splits), THREADS[tile], gy, w, parts, *shape.numbers, splits, gx.size,
        T=gy.dtype, TILE_M=tile[0], TILE_N=tile[1], PACKED=packed,
    )  # fmt: skip
    if splits > 1:
        sum_parts(parts, gx)


def weight_grad(x: Array, gy: Array, shape: ConvShape) -> Array:
    """gw of `shape`, for contiguous arrays; runs of images are added up in order."""
    if shape.pixels == 0:
        return device_of(x).zeros(shape.w, x.dtype)
    gw = empty_like(x, shape.w)
    for images in shape.runs() if gw.size else ():
        _weight_run(x[images], gy[images], gw, shape.part(images), more=images.start > 0)
    return gw


def _weight_run(x: Array, gy: Array, gw: Array, shape: ConvShape, more: bool) -> None:
    m, n, groups = shape.window, shape.filters, shape.groups
    packed_x, packed_gy = is_packed(x, shape.depth), is_packed(gy, n)
    tile = choose_tile(m, n, groups, x.dtype.itemsize, packed_x and packed_gy)
    blocks, z = tiles(m, n, tile), deep(groups, shape)
    splits = choose_splits(blocks * groups, shape.pixels, gw.nbytes, MOST_DEEP // z)
    whole = splits.parts == 1 and not more
    parts = gw if whole else empty_like(gw, (splits.parts, gw.size))
    _weight.launch(
        (blocks, 1, z * splits.parts), THREADS[tile], x, gy, parts, *shape.numbers, *splits,
        T=x.dtype, TILE_M=tile[0], TILE_N=tile[1], PACKED_X=packed_x, PACKED_GY=packed_gy,
    )  # fmt: skip
    if not whole:
        sum_parts(parts, gw, accumulate=more)


def _floats(a: Array, b: Array, bias: Array | None = None, **_: Any) -> bool:
    return is_float(a, b, bias)


def _is_short_of_tiles(m: int, n: int, batch: int, k: int, like: Array) -> bool:
    """Whether a product has so few tiles, and so long sums, that it is cut along k."""
    if n <= _NARROW or m * n == 0:
        return False
    tile = choose_tile(m, n, batch, like.dtype.itemsize, True)
    part_bytes = m * n * batch * like.dtype.itemsize
    return splits_for(tiles(m, n, tile) * batch, k, part_bytes, MOST_DEEP).parts > 1


def _cuts_forward(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    activation: str | None = None,
) -> bool:
    s = conv_shape(x.shape, w.shape, stride, padding, dilation, groups)
    return _is_short_of_tiles(s.pixels, s.filters, groups, s.window, x)


def _cuts_input(
    gy: Array,
    w: Array,
    *,
    input_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> bool:
    s = conv_shape(tuple(input_shape), w.shape, stride, padding, dilation, groups)
    return _is_short_of_tiles(s.phase_pixels, s.depth, groups * s.phases, s.phase_window, gy)


def _never(*_: Any, **__: Any) -> bool:
    return False


@p.conv2d.on("cuda", name="implicit", supports=_floats, unasked=_cuts_forward)
def _(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    activation: str | None = None,
) -> Array:
    shape = conv_shape(x.shape, w.shape, stride, padding, dilation, groups).check()
    return forward(contiguous(x), contiguous(w), contiguous(b), shape, activation)


@p.conv2d_input_grad.on("cuda", name="implicit", supports=_floats, unasked=_cuts_input)
def _(
    gy: Array,
    w: Array,
    *,
    input_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> Array:
    shape = conv_shape(tuple(input_shape), w.shape, stride, padding, dilation, groups).check()
    return input_grad(contiguous(gy), contiguous(w), shape)


@p.conv2d_weight_grad.on("cuda", name="implicit", supports=_floats, unasked=_never)
def _(
    x: Array,
    gy: Array,
    *,
    kernel_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> Array:
    shape = conv_shape(x.shape, tuple(kernel_shape), stride, padding, dilation, groups).check()
    return weight_grad(contiguous(x), contiguous(gy), shape)
