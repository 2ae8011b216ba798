"""Max, average and global average pooling over windows, with gradients.

Padding never takes part: it cannot be the maximum and is not counted in an average.
Letters as in conv.py: images (N,H,W,C), output (N,P,Q,C), window R×S, padding ((top, bottom),
(left, right)).
"""

from __future__ import annotations

import numpy as np

from gpukit.dispatch.primitive import primitive
from gpukit.primitives.accumulate import Array, long_mean
from gpukit.primitives.windows import (
    Padding,
    Pair,
    crop_image,
    output_shape,
    pad_image,
    taps,
    zeros_padded,
)


def index_dtype(window: Pair) -> type[np.unsignedinteger]:
    """The narrowest unsigned type that numbers the window's cells: uint8 up to 256 of them."""
    cells = window[0] * window[1]
    if cells <= 1 << 8:
        return np.uint8
    return np.uint16 if cells <= 1 << 16 else np.uint32


@primitive
def max_pool2d(x: Array, *, window: Pair, stride: Pair, padding: Padding) -> tuple[Array, Array]:
    """The largest cell of each window, and which one it was.

    x (N,H,W,C) -> y (N,P,Q,C) of x's dtype, index (N,P,Q,C): the row-major number r·S + s of the
    cell, uint8 up to 256 cells, else uint16 or uint32. Ties: the first in row-major order. NaN
    wins, the first of several. Every window must hold a pixel (geometry.py refuses other paddings).
    """
    p, q = output_shape(x.shape[1:3], window, stride, padding)
    shape = (x.shape[0], p, q, x.shape[3])
    padded = pad_image(x, padding)
    inside = pad_image(np.ones_like(x, shape=(1, *x.shape[1:3], 1), dtype=np.bool_), padding)
    best = np.zeros_like(x, shape=shape)
    index = np.zeros_like(x, shape=shape, dtype=index_dtype(window))
    seen = np.zeros_like(x, shape=(1, p, q, 1), dtype=np.bool_)
    for r, s, tap in taps((p, q), window, stride):
        cell, real = padded[tap], inside[tap]
        larger = (cell > best) | (np.isnan(cell) & ~np.isnan(best))
        better = real & (larger | ~seen)
        best = np.where(better, cell, best)
        index = np.where(better, r * window[1] + s, index).astype(index.dtype, copy=False)
        seen = seen | real
    return best, index


@primitive
def max_pool2d_grad(
    gy: Array,
    index: Array,
    *,
    input_shape: tuple[int, ...],
    window: Pair,
    stride: Pair,
    padding: Padding,
) -> Array:
    """Each gy goes to the pixel that won its window, overlapping windows add up.

    gy (N,P,Q,C), index (N,P,Q,C) from max_pool2d -> gx `input_shape`.
    """
    padded = zeros_padded(gy, input_shape, padding)
    for r, s, tap in taps(gy.shape[1:3], window, stride):
        padded[tap] += np.where(index == r * window[1] + s, gy, 0)
    return crop_image(padded, input_shape, padding)


def _cell_counts(like: Array, image: Pair, window: Pair, stride: Pair, padding: Padding) -> Array:
    """How many pixels, padding not counted, each window holds: (1,P,Q,1), at least 1."""
    p, q = output_shape(image, window, stride, padding)
    pixels = pad_image(np.ones_like(like, shape=(1, *image, 1)), padding)
    counts = np.zeros_like(like, shape=(1, p, q, 1))
    for _, _, tap in taps((p, q), window, stride):
        counts = counts + pixels[tap]
    return np.maximum(counts, 1)


@primitive
def avg_pool2d(x: Array, *, window: Pair, stride: Pair, padding: Padding) -> Array:
    """The mean of each window's pixels, padding not counted: x (N,H,W,C) -> y (N,P,Q,C).

    Accumulated in float64: a window may be a whole feature map.
    """
    p, q = output_shape(x.shape[1:3], window, stride, padding)
    padded = pad_image(x, padding)
    total = np.zeros_like(x, shape=(x.shape[0], p, q, x.shape[3]), dtype=np.float64)
    for _, _, tap in taps((p, q), window, stride):
        total += padded[tap]
    return (total / _cell_counts(total, x.shape[1:3], window, stride, padding)).astype(x.dtype)


@primitive
def avg_pool2d_grad(
    gy: Array, *, input_shape: tuple[int, ...], window: Pair, stride: Pair, padding: Padding
) -> Array:
    """Each gy is shared equally among its window's pixels: gy (N,P,Q,C) -> gx `input_shape`."""
    image = (input_shape[1], input_shape[2])
    share = gy / _cell_counts(gy, image, window, stride, padding)
    padded = zeros_padded(gy, input_shape, padding)
    for _, _, tap in taps(gy.shape[1:3], window, stride):
        padded[tap] += share
    return crop_image(padded, input_shape, padding)


@primitive
def global_avg_pool2d(x: Array) -> Array:
    """The mean of each channel's whole map: x (N,H,W,C) -> (N,C) (Lin et al., 2013)."""
    return long_mean(x, (1, 2))


@primitive
def global_avg_pool2d_grad(gy: Array, *, input_shape: tuple[int, ...]) -> Array:
    """gy (N,C) / (H·W) at every pixel: gx `input_shape` (N,H,W,C)."""
    n, h, w, c = input_shape
    share = np.reshape(gy / (h * w), (n, 1, 1, c))
    return np.zeros_like(gy, shape=input_shape) + share
