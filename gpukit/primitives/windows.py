"""Where a sliding window's cells lie in the padded image: shared by convolution and pooling.

    padded row of cell r of window p:   p·stride + r·dilation        (columns likewise)

So cell (r, s) of *all* P×Q windows is one strided slice of the padded image: `taps` yields these
slices in row-major order. A slice never holds one element twice, so gradients can be added into it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gpukit.primitives.accumulate import Array

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]
Tap = tuple[slice, slice, slice]


def pad_image(x: Array, padding: Padding) -> Array:
    """x (N,H,W,C) with rows and columns of zeros around it: (N, top+H+bottom, left+W+right, C)."""
    if padding == ((0, 0), (0, 0)):
        return x
    return np.pad(x, ((0, 0), *padding, (0, 0)))


def zeros_padded(like: Array, shape: tuple[int, ...], padding: Padding) -> Array:
    """Zeros for an image of `shape` (N,H,W,C) and its padding, to add gradients into."""
    (top, bottom), (left, right) = padding
    n, h, w, c = shape
    return np.zeros_like(like, shape=(n, top + h + bottom, left + w + right, c))


def crop_image(padded: Array, shape: tuple[int, ...], padding: Padding) -> Array:
    """The image of `shape` (N,H,W,C) inside `padded`: what `pad_image` put there."""
    (top, _), (left, _) = padding
    return padded[:, top : top + shape[1], left : left + shape[2], :]


def output_shape(
    image: Pair, window: Pair, stride: Pair, padding: Padding, dilation: Pair = (1, 1)
) -> Pair:
    """(P, Q) = floor((size + pads - span) / stride) + 1, span = (window - 1)·dilation + 1."""
    p, q = (
        (size + sum(pads) - (cells - 1) * apart - 1) // step + 1
        for size, cells, step, pads, apart in zip(
            image, window, stride, padding, dilation, strict=True
        )
    )
    return p, q


def taps(
    output: Pair, window: Pair, stride: Pair, dilation: Pair = (1, 1)
) -> Iterator[tuple[int, int, Tap]]:
    """Yield (r, s, slices of the padded image that hold cell (r, s) of every window)."""
    for r in range(window[0]):
        for s in range(window[1]):
            rows, columns = (
                slice(cell * apart, cell * apart + (count - 1) * step + 1, step)
                for cell, apart, count, step in zip((r, s), dilation, output, stride, strict=True)
            )
            yield r, s, (slice(None), rows, columns)
