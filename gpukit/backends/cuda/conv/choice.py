"""Convolution, its gradients and the bias gradient on cards: best implementation first.

depthwise   one channel a group, see depthwise.py
first       patches of images in shared memory, up to four channels: first.py
implicit    the default only where sums are cut along k for want of whole waves, see implicit.py
direct      windows read by the tiles of the product, kernels/conv/direct.cu; up to four filters a
            group a thread an element, kernels/conv/direct_narrow.cu
im2col      panels and products, see im2col.py

Batches of more pixels than an int counts are cut into runs of images, a launch each.
"""

from __future__ import annotations

import math
from typing import Any

from gpukit import primitives as p
from gpukit.backends.cuda.conv import im2col
from gpukit.backends.cuda.conv.shape import ConvShape, conv_shape, deep
from gpukit.backends.cuda.linear.gemm import ACTIVATIONS, MOST, SUM_KERNELS, is_packed, sum_parts
from gpukit.backends.cuda.runtime.common import BLOCK, contiguous, divide_up, empty_like, is_float
from gpukit.backends.cuda.runtime.tiling import MOST_DEEP, THREADS, Splits, plan, split, tiles
from gpukit.device import device_of
from gpukit.launch.kernel import Kernel
from gpukit.primitives.windows import Conv

Array = Any

_NARROW = 4  # columns of the product up to which a tile is mostly empty
_PIXELS = 4  # of a thread of conv2d_forward_narrow
_NARROW_WORK = 4 * BLOCK  # of conv2d_weight_grad_narrow's block a pixel: its loads count, too
_SHARING = 8  # lanes of conv2d_input_grad_narrow: 8 words of 16 bytes are 4 sectors
_ROWS_EACH = 32  # rows that a thread of column_sums adds at least

_forward = Kernel("conv/direct.cu", "conv2d_forward")
_input = Kernel("conv/direct.cu", "conv2d_input_grad")
_weight = Kernel("conv/direct.cu", "conv2d_weight_grad")
_forward_narrow = Kernel("conv/direct_narrow.cu", "conv2d_forward_narrow")
_input_narrow = Kernel("conv/direct_narrow.cu", "conv2d_input_grad_narrow")
_weight_narrow = Kernel("conv/direct_narrow.cu", "conv2d_weight_grad_narrow")
_column_sums = Kernel("conv/bias.cu", "column_sums")
BIAS_KERNELS = (_column_sums,)


def _floats(a: Array, b: Array, bias: Array | None = None, **_: Any) -> bool:
    return is_float(a, b, bias)


@p.conv2d.on("cuda", name="direct", supports=_floats, kernels=(_forward, _forward_narrow))
def _(
    x: Array, w: Array, b: Array | None = None, *, conv: Conv, activation: str | None = None
) -> Array:
    shape = conv_shape(x.shape, w.shape, conv).check()
    x, w, b = contiguous(x), contiguous(w), contiguous(b)
    y = empty_like(x, shape.y)
    for images in shape.runs() if y.size else ():
        part = shape.part(images)
        _forward_run(_cut(x, images), w, b, _cut(y, images), part, ACTIVATIONS[activation])
    return y


def _forward_run(
    x: Array, w: Array, b: Array | None, y: Array, shape: ConvShape, kind: int
) -> None:
    if shape.filters <= _NARROW:
        threads = math.prod(shape.y[:2]) * divide_up(shape.y[2], _PIXELS) * shape.y[3]
        _forward_narrow.launch(
            divide_up(threads, BLOCK), BLOCK, x, w, b, y, shape.struct,
            T=x.dtype, CHANNEL_PACKS=is_packed(x, shape.depth), ACTIVATION=kind,
        )  # fmt: skip
        return
    packed_x, packed_w = is_packed(x, shape.depth), is_packed(w, shape.filters)
    packed, z = packed_x and packed_w, deep(shape.conv.groups, shape)
    m, n = shape.pixels, shape.filters
    tile = plan(m, n, z, shape.window, x.dtype.itemsize, packed, most=1).tile
    _forward.launch(
        (tiles(m, n, tile), 1, z), THREADS[tile], x, w, b, y, shape.struct,
        T=x.dtype, TILE_M=tile.m, TILE_N=tile.n, PACKED_X=packed_x, PACKED_W=packed_w,
        ACTIVATION=kind,
    )  # fmt: skip


@p.conv2d_input_grad.on("cuda", name="direct", supports=_floats, kernels=(_input, _input_narrow))
def _(gy: Array, w: Array, *, input_shape: tuple[int, ...], conv: Conv) -> Array:
    shape = conv_shape(tuple(input_shape), w.shape, conv).check()
    gy, w = contiguous(gy), contiguous(w)
    gx = empty_like(gy, input_shape)
    for images in shape.runs() if gx.size else ():
        _input_run(_cut(gy, images), w, _cut(gx, images), shape.part(images))
    return gx


def _input_run(gy: Array, w: Array, gx: Array, shape: ConvShape) -> None:
    if shape.depth <= _NARROW:
        packed = is_packed(gy, shape.filters) and is_packed(w)
        words = shape.filters * gy.dtype.itemsize // 16 if packed else shape.filters
        lanes = min(1 << (max(words, 1).bit_length() - 1), _SHARING)
        threads = gx.size // shape.depth * lanes
        _input_narrow.launch(
            divide_up(threads, BLOCK), BLOCK, gy, w, gx, shape.struct, lanes,
            T=gy.dtype, PACKED=packed,
        )  # fmt: skip
        return
    # Each phase of the stride has its own pixels; the first has the most.
    z = deep(shape.conv.groups * shape.phases, shape)
    packed = is_packed(gy, shape.filters) and is_packed(w)
    m, n = shape.phase_pixels, shape.depth
    tile = plan(m, n, z, shape.phase_window, gy.dtype.itemsize, packed, most=1).tile
    _input.launch(
        (tiles(m, n, tile), 1, z), THREADS[tile],
        gy, w, gx, shape.struct, T=gy.dtype, TILE_M=tile.m, TILE_N=tile.n, PACKED=packed,
    )  # fmt: skip


@p.conv2d_weight_grad.on(
    "cuda", name="direct", supports=_floats, kernels=(_weight, _weight_narrow, *SUM_KERNELS)
)
def _(x: Array, gy: Array, *, kernel_shape: tuple[int, ...], conv: Conv) -> Array:
    shape = conv_shape(x.shape, tuple(kernel_shape), conv).check()
    x, gy = contiguous(x), contiguous(gy)
    if shape.pixels == 0:
        return device_of(x).zeros(kernel_shape, x.dtype)
    gw = empty_like(x, kernel_shape)
    for images in shape.runs() if gw.size else ():
        part = shape.part(images)
        _weight_run(_cut(x, images), _cut(gy, images), gw, part, more=images.start > 0)
    return gw


def _weight_run(x: Array, gy: Array, gw: Array, shape: ConvShape, more: bool) -> None:
    if shape.filters <= _NARROW:
        lanes, packed_x = _lanes(shape.w[3]), is_packed(x, shape.depth)
        cells = shape.window * x.dtype.itemsize // 16 if packed_x else shape.window
        blocks = cells * divide_up(shape.w[3], lanes)
        splits, _ = split(
            blocks, shape.pixels, gw.nbytes, work=_NARROW_WORK, threads=BLOCK, together=4
        )
        parts = _parts(gw, splits, more)
        _weight_narrow.launch(
            (blocks, splits.parts), BLOCK, x, gy, parts, shape.struct, *splits, lanes,
            T=x.dtype, CHANNEL_PACKS=packed_x,
        )  # fmt: skip
    else:
        packed_x, packed_gy = is_packed(x, shape.depth), is_packed(gy, shape.filters)
        m, n, z = shape.window, shape.filters, deep(shape.conv.groups, shape)
        packed = packed_x and packed_gy
        tile, splits, _ = plan(m, n, z, shape.pixels, x.dtype.itemsize, packed, MOST_DEEP // z)
        parts = _parts(gw, splits, more)
        _weight.launch(
            (tiles(m, n, tile), 1, z * splits.parts), THREADS[tile],
            x, gy, parts, shape.struct, *splits,
            T=x.dtype, TILE_M=tile.m, TILE_N=tile.n, PACKED_X=packed_x, PACKED_GY=packed_gy,
        )  # fmt: skip
    if parts is not gw:
        sum_parts(parts, gw, accumulate=more)


def _parts(gw: Array, splits: Splits, more: bool) -> Array:
    """Memory for parts of a weight gradient: itself where there is one, and nothing to add to."""
    return gw if splits.parts == 1 and not more else empty_like(gw, (splits.parts, gw.size))


@p.conv2d.on("cuda", name="im2col", supports=_floats, kernels=im2col.PANEL_KERNELS)
def _(
    x: Array, w: Array, b: Array | None = None, *, conv: Conv, activation: str | None = None
) -> Array:
    shape = conv_shape(x.shape, w.shape, conv).check()
    return im2col.forward(contiguous(x), contiguous(w), contiguous(b), shape, activation)


@p.conv2d_input_grad.on("cuda", name="im2col", supports=_floats, kernels=im2col.INPUT_KERNELS)
def _(gy: Array, w: Array, *, input_shape: tuple[int, ...], conv: Conv) -> Array:
    shape = conv_shape(tuple(input_shape), w.shape, conv).check()
    return im2col.input_grad(contiguous(gy), contiguous(w), shape)


@p.conv2d_weight_grad.on("cuda", name="im2col", supports=_floats, kernels=im2col.PANEL_KERNELS)
def _(x: Array, gy: Array, *, kernel_shape: tuple[int, ...], conv: Conv) -> Array:
    shape = conv_shape(x.shape, tuple(kernel_shape), conv).check()
    if shape.pixels == 0:
        return device_of(x).zeros(kernel_shape, x.dtype)
    return im2col.weight_grad(contiguous(x), contiguous(gy), shape)


@p.bias_grad.on(
    "cuda",
    name="cuda",
    supports=lambda gy: is_float(gy) and gy.shape[-1] <= MOST,
    kernels=(_column_sums,),
)
def bias_gradient(gy: Array) -> Array:
    columns = gy.shape[-1]
    if gy.size == 0:
        return device_of(gy).zeros((columns,), gy.dtype)
    parts = contiguous(gy).reshape(-1, columns)
    lanes = _lanes(columns)
    while True:
        rows = parts.shape[0]
        # A thousand blocks of rows at most, so that the next pass is the last up to 10⁶ of them.
        each = max(BLOCK // lanes * _ROWS_EACH, divide_up(rows, 1024))
        sums = empty_like(gy, (divide_up(rows, each), columns))
        _column_sums.launch(
            sums.shape[0] * divide_up(columns, lanes), BLOCK, parts, sums, rows, columns, each,
            lanes, T=gy.dtype,
        )  # fmt: skip
        if sums.shape[0] == 1:
            return sums.reshape(columns)
        parts = sums


def _cut(x: Array, images: slice) -> Array:
    """Some of the images; usually all, of which no view is made."""
    return x if images == slice(0, x.shape[0]) else x[images]


def _lanes(columns: int) -> int:
    """Columns side by side in a block: the power of two that holds them, up to a warp's 32."""
    return min(1 << (columns - 1).bit_length(), 32)
