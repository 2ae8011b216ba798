"""Convolution by tiles of a panel that exists in shared memory only: kernels/conv/implicit.cu.

By name ("implicit") for every shape. By default, forward passes and input gradients come here whose
tiles do not fill whole waves and whose sums are long: they are cut along k (tiling.py).
"""

from __future__ import annotations

from typing import Any

from gpukit import primitives as p
from gpukit.backends.cuda.conv.shape import ConvShape, conv_shape, deep
from gpukit.backends.cuda.linear.gemm import ACTIVATIONS, SUM_KERNELS, is_packed, sum_parts
from gpukit.backends.cuda.runtime.common import contiguous, empty_like, is_float
from gpukit.backends.cuda.runtime.tiling import (
    COPIED,
    LARGE,
    MOST_DEEP,
    THIN,
    THREADS,
    Built,
    plan,
    tiles,
)
from gpukit.device import device_of
from gpukit.launch.kernel import Kernel
from gpukit.primitives.windows import Conv

Array = Any

# Of an input gradient, both of whose operands lie along k: others would spill on sm_100 and sm_120.
_OF_INPUT = tuple(pair for pair in COPIED if pair[0] not in (LARGE, THIN))
_NARROW = 4  # columns up to which "direct" has kernels that need no tiles

_forward = Kernel("conv/implicit.cu", "implicit_forward")
_input = Kernel("conv/implicit.cu", "implicit_input_grad")
_weight = Kernel("conv/implicit.cu", "implicit_weight_grad")


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
    m, n, z = shape.pixels, shape.filters, deep(shape.conv.groups, shape)
    packed_x, packed_w = is_packed(x, shape.depth), is_packed(w, n)
    packed = packed_x and packed_w
    tile, splits, _ = plan(m, n, z, shape.window, x.dtype.itemsize, packed, MOST_DEEP // z, COPIED)
    whole = splits.parts == 1
    parts = y if whole else empty_like(y, (splits.parts, y.size))
    _forward.launch(
        (tiles(m, n, tile), 1, z * splits.parts), THREADS[tile], x, w, b if whole else None, parts,
        shape.struct, *splits, y.size, T=x.dtype, TILE_M=tile.m, TILE_N=tile.n,
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
    m, n, z = shape.phase_pixels, shape.depth, deep(shape.conv.groups * shape.phases, shape)
    packed = is_packed(gy, shape.filters) and is_packed(w)
    tile, (splits, _), _ = plan(
        m, n, z, shape.phase_window, gy.dtype.itemsize, packed, MOST_DEEP // z, _OF_INPUT
    )
    parts = gx if splits == 1 else empty_like(gx, (splits, gx.size))
    _input.launch(
        (tiles(m, n, tile), 1, z * splits), THREADS[tile],
        gy, w, parts, shape.struct, splits, gx.size,
        T=gy.dtype, TILE_M=tile.m, TILE_N=tile.n, PACKED=packed,
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
    m, n, z = shape.window, shape.filters, deep(shape.conv.groups, shape)
    packed_x, packed_gy = is_packed(x, shape.depth), is_packed(gy, n)
    packed = packed_x and packed_gy
    tile, splits, _ = plan(m, n, z, shape.pixels, x.dtype.itemsize, packed, MOST_DEEP // z, COPIED)
    whole = splits.parts == 1 and not more
    parts = gw if whole else empty_like(gw, (splits.parts, gw.size))
    _weight.launch(
        (tiles(m, n, tile), 1, z * splits.parts), THREADS[tile],
        x, gy, parts, shape.struct, *splits,
        T=x.dtype, TILE_M=tile.m, TILE_N=tile.n, PACKED_X=packed_x, PACKED_GY=packed_gy,
    )  # fmt: skip
    if not whole:
        sum_parts(parts, gw, accumulate=more)


def _floats(a: Array, b: Array, bias: Array | None = None, **_: Any) -> bool:
    return is_float(a, b, bias)


def _is_cut(m: int, n: int, batch: int, k: int, like: Array, built: Built) -> bool:
    """Whether cutting a product along k is quicker, as counted, than "direct", which does not."""
    if n <= _NARROW or m * n == 0 or batch > MOST_DEEP:
        return False
    cut = plan(m, n, batch, k, like.dtype.itemsize, True, MOST_DEEP // batch, built)
    return (
        cut.splits.parts > 1
        and cut.cost < plan(m, n, batch, k, like.dtype.itemsize, True, most=1).cost
    )


def _cuts_forward(
    x: Array, w: Array, b: Array | None = None, *, conv: Conv, activation: str | None = None
) -> bool:
    s = conv_shape(x.shape, w.shape, conv)
    return _is_cut(s.pixels, s.filters, conv.groups, s.window, x, COPIED)


def _cuts_input(gy: Array, w: Array, *, input_shape: tuple[int, ...], conv: Conv) -> bool:
    s = conv_shape(tuple(input_shape), w.shape, conv)
    return _is_cut(s.phase_pixels, s.depth, conv.groups * s.phases, s.phase_window, gy, _OF_INPUT)


def _never(*_: Any, **__: Any) -> bool:
    return False


@p.conv2d.on(
    "cuda",
    name="implicit",
    supports=_floats,
    default_when=_cuts_forward,
    kernels=(_forward, *SUM_KERNELS),
)
def _(
    x: Array, w: Array, b: Array | None = None, *, conv: Conv, activation: str | None = None
) -> Array:
    shape = conv_shape(x.shape, w.shape, conv).check()
    return forward(contiguous(x), contiguous(w), contiguous(b), shape, activation)


@p.conv2d_input_grad.on(
    "cuda",
    name="implicit",
    supports=_floats,
    default_when=_cuts_input,
    kernels=(_input, *SUM_KERNELS),
)
def _(gy: Array, w: Array, *, input_shape: tuple[int, ...], conv: Conv) -> Array:
    shape = conv_shape(tuple(input_shape), w.shape, conv).check()
    return input_grad(contiguous(gy), contiguous(w), shape)


@p.conv2d_weight_grad.on(
    "cuda", name="implicit", supports=_floats, default_when=_never, kernels=(_weight, *SUM_KERNELS)
)
def _(x: Array, gy: Array, *, kernel_shape: tuple[int, ...], conv: Conv) -> Array:
    shape = conv_shape(x.shape, tuple(kernel_shape), conv).check()
    return weight_grad(contiguous(x), contiguous(gy), shape)
