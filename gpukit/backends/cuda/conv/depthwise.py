"""Depthwise convolution, one channel a group: kernels/conv/depthwise.cu.

By name ("depthwise") for any number of filters a channel; the default up to four: with more,
the tiles of "direct" share a pixel between filters.
"""

from __future__ import annotations

from typing import Any

from gpukit import primitives as p
from gpukit.backends.cuda.conv.shape import ConvShape, ConvStruct, conv_shape
from gpukit.backends.cuda.linear.gemm import ACTIVATIONS, SUM_KERNELS, is_packed, sum_parts
from gpukit.backends.cuda.runtime.common import BLOCK, contiguous, divide_up, empty_like, is_float
from gpukit.backends.cuda.runtime.tiling import split
from gpukit.device import device_of
from gpukit.launch.kernel import Kernel
from gpukit.primitives.windows import Conv

Array = Any

_FEW = 4  # filters a channel up to which calls without algo come here
_NEIGHBOURS = 4  # pixels of a thread of depthwise_forward
_AT_ONCE = 9  # taps of a thread of depthwise_weight_grad
_WORK = _AT_ONCE * BLOCK  # of its block a pixel: multiply-adds and loads, about
_TOGETHER = 2  # of its blocks on a multiprocessor
_MOST_ACROSS = 65535  # blocks along y
_KNOWN = ((3, 1), (3, 2), (5, 1))  # taps of a row and stride that forward kernels are written for

_forward = Kernel("conv/depthwise.cu", "depthwise_forward")
_input = Kernel("conv/depthwise.cu", "depthwise_input_grad")
_weight = Kernel("conv/depthwise.cu", "depthwise_weight_grad")


def _grid(items: int, images: int) -> tuple[int, int]:
    return divide_up(items, BLOCK), min(images, _MOST_ACROSS)


def _packs(shape: ConvShape, *arrays: Array) -> bool:
    """Whether channels come in packs of 16 bytes, one filter each."""
    return shape.x[3] == shape.w[3] and all(is_packed(a, shape.x[3]) for a in arrays)


def _slide(
    x: Array, w: Array, b: Array | None, y: Array, shape: ConvShape, struct: ConvStruct, **how: Any
) -> None:
    """y from x by `shape`'s taps, whichever of them is the input, as `struct` says."""
    packed = _packs(shape, x, w, y)
    known = (shape.w[1], shape.conv.stride[1])
    if not packed or known not in _KNOWN or shape.conv.dilation[1] > 1:
        known = (0, 0)
    size = 16 // x.dtype.itemsize if packed else 1
    items = y.shape[1] * divide_up(y.shape[2], _NEIGHBOURS) * (y.shape[3] // size)
    _forward.launch(
        _grid(items, y.shape[0]), BLOCK, x, w, b, y, struct,
        T=x.dtype, PACKED=packed, TAPS=known[0], STRIDE=known[1], **how,
    )  # fmt: skip


def forward(x: Array, w: Array, b: Array | None, shape: ConvShape, activation: str | None) -> Array:
    """y of `shape`, with bias and activation, for contiguous arrays."""
    y = empty_like(x, shape.y)
    if y.size:
        kind = ACTIVATIONS[activation]
        _slide(x, w, b, y, shape, shape.struct, FLIPPED=False, ACTIVATION=kind)
    return y


def input_grad(gy: Array, w: Array, shape: ConvShape) -> Array:
    """gx of `shape`, for contiguous arrays."""
    gx = empty_like(gy, shape.x)
    if gx.size == 0:
        return gx
    packed = _packs(shape, gy, w, gx)
    if packed and shape.conv.stride == (1, 1):
        _slide(gy, w, None, gx, shape, shape.turned, FLIPPED=True, ACTIVATION=0)
        return gx
    items = gx.size // gx.shape[0] // (16 // gx.dtype.itemsize if packed else 1)
    _input.launch(
        _grid(items, gx.shape[0]), BLOCK, gy, w, gx, shape.struct, T=gy.dtype, PACKED=packed
    )
    return gx


def weight_grad(x: Array, gy: Array, shape: ConvShape) -> Array:
    """gw of `shape`, for contiguous arrays; runs of images are added up in order."""
    if shape.pixels == 0:
        return device_of(x).zeros(shape.w, x.dtype)
    gw = empty_like(x, shape.w)
    for images in shape.runs() if gw.size else ():
        _weight_run(x[images], gy[images], gw, shape.part(images), more=images.start > 0)
    return gw


def _weight_run(x: Array, gy: Array, gw: Array, shape: ConvShape, more: bool) -> None:
    packed = _packs(shape, x, gy, gw)
    packs = shape.w[3] // (16 // x.dtype.itemsize if packed else 1)
    lanes = min(1 << (packs - 1).bit_length(), 32)
    tiles, chunks = divide_up(packs, lanes), divide_up(shape.w[0] * shape.w[1], _AT_ONCE)
    columns = max(shape.y[2], 1)
    (splits, length), _ = split(
        tiles * chunks, shape.pixels, gw.nbytes,
        work=_WORK, threads=BLOCK, together=_TOGETHER, step=columns,
    )  # fmt: skip
    each = length // columns
    whole = splits == 1 and not more
    parts = gw if whole else empty_like(gw, (splits, gw.size))
    _weight.launch(
        (tiles * splits, chunks), BLOCK, x, gy, parts, shape.struct, each, lanes,
        T=x.dtype, PACKED=packed,
    )  # fmt: skip
    if not whole:
        sum_parts(parts, gw, accumulate=more)


def _takes_forward(x: Array, w: Array, b: Array | None = None, *, conv: Conv, **_: Any) -> bool:
    return is_float(x, w, b) and conv.groups == x.shape[3]


def _takes_input(
    gy: Array, w: Array, *, input_shape: tuple[int, ...], conv: Conv, **_: Any
) -> bool:
    return is_float(gy, w) and conv.groups == input_shape[3]


def _takes_weight(x: Array, gy: Array, *, conv: Conv, **_: Any) -> bool:
    return is_float(x, gy) and conv.groups == x.shape[3]


def _has_few(first: Array, second: Array, *_: Any, conv: Conv, **settings: Any) -> bool:
    """Whether there are so few filters a channel that calls without algo come here."""
    filters = settings.get("kernel_shape", second.shape)[3]
    return bool(filters <= _FEW * conv.groups)


@p.conv2d.on(
    "cuda", name="depthwise", supports=_takes_forward, default_when=_has_few, kernels=(_forward,)
)
def _(
    x: Array, w: Array, b: Array | None = None, *, conv: Conv, activation: str | None = None
) -> Array:
    shape = conv_shape(x.shape, w.shape, conv).check()
    return forward(contiguous(x), contiguous(w), contiguous(b), shape, activation)


@p.conv2d_input_grad.on(
    "cuda",
    name="depthwise",
    supports=_takes_input,
    default_when=_has_few,
    kernels=(_forward, _input),
)
def _(gy: Array, w: Array, *, input_shape: tuple[int, ...], conv: Conv) -> Array:
    shape = conv_shape(tuple(input_shape), w.shape, conv).check()
    return input_grad(contiguous(gy), contiguous(w), shape)


@p.conv2d_weight_grad.on(
    "cuda",
    name="depthwise",
    supports=_takes_weight,
    default_when=_has_few,
    kernels=(_weight, *SUM_KERNELS),
)
def _(x: Array, gy: Array, *, kernel_shape: tuple[int, ...], conv: Conv) -> Array:
    shape = conv_shape(x.shape, tuple(kernel_shape), conv).check()
    return weight_grad(contiguous(x), contiguous(gy), shape)
