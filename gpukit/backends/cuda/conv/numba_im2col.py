"""Launchers of kernels/conv/im2col.py: convolution as products over panels of a few images.

A panel holds the windows of these images, at most 64 MiB, or what one image needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gpukit.backends.cuda.conv.im2col import PANEL_BYTES
from gpukit.backends.cuda.conv.shape import ConvShape
from gpukit.backends.cuda.linear.gemm import ACTIVATIONS
from gpukit.backends.cuda.runtime.common import divide_up, empty_like
from gpukit.backends.cuda.runtime.tiling import MOST_DEEP
from gpukit.launch.numba import MOST, NumbaKernel

Array = Any

BLOCK = 256
TILE = 16  # rows and columns of a block's tile of results
MOST_TILES = 65535  # along a grid's second axis

_im2col = NumbaKernel("conv/im2col", "im2col")
_col2im = NumbaKernel("conv/im2col", "col2im")
_forward = NumbaKernel("conv/im2col", "forward_product")
_input = NumbaKernel("conv/im2col", "input_product")
_weight = NumbaKernel("conv/im2col", "weight_product")
FORWARD_KERNELS = (_im2col, _forward)
INPUT_KERNELS = (_col2im, _input)
WEIGHT_KERNELS = (_im2col, _weight)


def _numbers_an_image(shape: ConvShape) -> int:
    return shape.conv.groups * shape.y[1] * shape.y[2] * shape.window


def fit(shape: ConvShape) -> bool:
    """Whether the panel of one image, and its groups and tiles, can be counted."""
    tiles = divide_up(max(shape.window, shape.filters), TILE)
    return (
        _numbers_an_image(shape) <= MOST and shape.conv.groups <= MOST_DEEP and tiles <= MOST_TILES
    )


def _parts(shape: ConvShape, itemsize: int) -> Iterator[tuple[slice, ConvShape]]:
    """Images a panel, and the shape of their convolution."""
    step = max(PANEL_BYTES // (max(_numbers_an_image(shape), 1) * itemsize), 1)
    for first in range(0, shape.x[0], step):
        images = slice(first, min(first + step, shape.x[0]))
        yield images, shape.part(images)


def _panel(like: Array, part: ConvShape) -> Array:
    return empty_like(like, (part.conv.groups, part.pixels, part.window))


def _filled(x: Array, part: ConvShape) -> Array:
    panel = _panel(x, part)
    _im2col.launch(
        divide_up(panel.size, BLOCK), BLOCK, x, panel, *part.w[:2], *part.y[1:3], *part.slide
    )
    return panel


def _grid(rows: int, columns: int, groups: int) -> tuple[int, int, int]:
    return divide_up(rows, TILE), divide_up(columns, TILE), groups


def forward(x: Array, w: Array, b: Array | None, shape: ConvShape, activation: str | None) -> Array:
    """y of `shape`, bias and activation applied on the way out."""
    y = empty_like(x, shape.y)
    if y.size == 0:
        return y
    weights = w.reshape(shape.window, shape.w[3])
    for images, part in _parts(shape, x.dtype.itemsize):
        _forward.launch(
            _grid(part.pixels, part.filters, part.conv.groups), (TILE, TILE),
            _filled(x[images], part), weights, w.reshape(-1) if b is None else b,
            y[images].reshape(part.pixels, part.w[3]), b is not None, ACTIVATIONS[activation],
            part.filters,
        )  # fmt: skip
    return y


def input_grad(gy: Array, w: Array, shape: ConvShape) -> Array:
    """gx of `shape`."""
    gx = empty_like(gy, shape.x)
    if gx.size == 0:
        return gx
    weights = w.reshape(shape.window, shape.w[3])
    for images, part in _parts(shape, gy.dtype.itemsize):
        panel = _panel(gy, part)
        _input.launch(
            _grid(part.pixels, part.window, part.conv.groups), (TILE, TILE),
            gy[images].reshape(part.pixels, part.w[3]), weights, panel, part.filters,
        )  # fmt: skip
        out = gx[images]
        _col2im.launch(
            divide_up(out.size, BLOCK), BLOCK, panel, out, *part.w[:2], *part.y[1:3], *part.slide
        )
    return gx


def weight_grad(x: Array, gy: Array, shape: ConvShape) -> Array:
    """gw of `shape`, panel after panel added up in order."""
    gw = empty_like(x, shape.w)
    for images, part in _parts(shape, x.dtype.itemsize):
        _weight.launch(
            _grid(part.window, part.filters, part.conv.groups), (TILE, TILE),
            _filled(x[images], part), gy[images].reshape(part.pixels, part.w[3]),
            gw.reshape(part.window, part.w[3]), images.start > 0, part.filters,
        )  # fmt: skip
    return gw
