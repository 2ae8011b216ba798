"""Max, average and global average pooling over windows, with gradients.

Padding never takes part: it cannot be the maximum and is not counted in an average.
Letters as in conv.py: images (N,H,W,C), output (N,P,Q,C), window R×S, padding ((top, bottom),
(left, right)).
"""

from __future__ import annotations

import numpy as np

from gpukit.dispatch.primitive import primitive
from gpukit.primitives.accumulate import Array, long_mean
from gpukit.primitives.windows import Window, crop_image, pad_image, zeros_padded


def index_dtype(window: Window) -> type[np.unsignedinteger]:
    """The narrowest unsigned type that numbers the window's cells: uint8 up to 256 of them."""
    if window.cells <= 1 << 8:
        return np.uint8
    return np.uint16 if window.cells <= 1 << 16 else np.uint32


@primitive
def max_pool2d(x: Array, *, window: Window) -> tuple[Array, Array]:
    """The largest cell of each window, and which one it was.

    x (N,H,W,C) -> y (N,P,Q,C) of x's dtype, index (N,P,Q,C): the row-major number r·S + s of the
    cell, uint8 up to 256 cells, else uint16 or uint32. Ties: the first in row-major order. NaN
    wins, the first of several. Every window must hold a pixel (geometry.py refuses other paddings).
    """
    p, q = window.output_shape(x.shape[1:3])
    shape = (x.shape[0], p, q, x.shape[3])
    padded = pad_image(x, window.padding)
    inside = pad_image(np.ones_like(x, shape=(1, *x.shape[1:3], 1), dtype=np.bool_), window.padding)
    best = np.zeros_like(x, shape=shape)
    index = np.zeros_like(x, shape=shape, dtype=index_dtype(window))
    seen = np.zeros_like(x, shape=(1, p, q, 1), dtype=np.bool_)
    for r, s, tap in window.taps((p, q)):
        cell, real = padded[tap], inside[tap]
        larger = (cell > best) | (np.isnan(cell) & ~np.isnan(best))
        better = real & (larger | ~seen)
        best = np.where(better, cell, best)
        index = np.where(better, r * window.size[1] + s, index).astype(index.dtype, copy=False)
        seen = seen | real
    return best, index


@primitive
def max_pool2d_grad(
    gy: Array, index: Array, *, input_shape: tuple[int, ...], window: Window
) -> Array:
    """Each gy goes to the pixel that won its window, overlapping windows add up.

    gy (N,P,Q,C), index (N,P,Q,C) from max_pool2d -> gx `input_shape`.
    """
    padded = zeros_padded(gy, input_shape, window.padding)
    for r, s, tap in window.taps(gy.shape[1:3]):
        padded[tap] += np.where(index == r * window.size[1] + s, gy, 0)
    return crop_image(padded, input_shape, window.padding)


def _cell_counts(like: Array, image: tuple[int, ...], window: Window) -> Array:
    """How many pixels, padding not counted, each window holds: (1,P,Q,1), at least 1."""
    p, q = window.output_shape(image)
    pixels = pad_image(np.ones_like(like, shape=(1, *image, 1)), window.padding)
    counts = np.zeros_like(like, shape=(1, p, q, 1))
    for _, _, tap in window.taps((p, q)):
        counts = counts + pixels[tap]
    return np.maximum(counts, 1)


@primitive
def avg_pool2d(x: Array, *, window: Window) -> Array:
    """The mean of each window's pixels, padding not counted: x (N,H,W,C) -> y (N,P,Q,C).

    Accumulated in float64: a window may be a whole feature map.
    """
    p, q = window.output_shape(x.shape[1:3])
    padded = pad_image(x, window.padding)
    total = np.zeros_like(x, shape=(x.shape[0], p, q, x.shape[3]), dtype=np.float64)
    for _, _, tap in window.taps((p, q)):
        total += padded[tap]
    return (total / _cell_counts(total, x.shape[1:3], window)).astype(x.dtype)


@primitive
def avg_pool2d_grad(gy: Array, *, input_shape: tuple[int, ...], window: Window) -> Array:
    """Each gy is shared equally among its window's pixels: gy (N,P,Q,C) -> gx `input_shape`."""
    share = gy / _cell_counts(gy, input_shape[1:3], window)
    padded = zeros_padded(gy, input_shape, window.padding)
    for _, _, tap in window.taps(gy.shape[1:3]):
        padded[tap] += share
    return crop_image(padded, input_shape, window.padding)


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
