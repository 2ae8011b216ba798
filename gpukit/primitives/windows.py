"""Settings of convolution, `Conv`, and of pooling, `Window`, and where their cells lie in an image.

    padded row of cell r of window p:   p·stride + r·dilation        (columns likewise)

So cell (r, s) of *all* P×Q windows is one strided slice of the padded image: `taps` yields these
slices in row-major order. A slice never holds one element twice, so gradients can be added into it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from gpukit.primitives.accumulate import Array

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]
Tap = tuple[slice, slice, slice]

NO_PADDING: Padding = ((0, 0), (0, 0))


class Window(NamedTuple):
    """A window that slides over images: (rows, columns), padding ((top, bottom), (left, right))."""

    size: Pair
    stride: Pair = (1, 1)
    padding: Padding = NO_PADDING
    dilation: Pair = (1, 1)

    @property
    def cells(self) -> int:
        """Pixels that one window holds."""
        return self.size[0] * self.size[1]

    @property
    def offset(self) -> Pair:
        """Top and left padding."""
        return self.padding[0][0], self.padding[1][0]

    def output_shape(self, image: tuple[int, ...]) -> Pair:
        """(P, Q) for an image (H, W): `output_size` along both axes."""
        (h, w), (r, s), stride, padding, dilation = image, *self
        return (
            output_size(h, r, stride[0], padding[0], dilation[0]),
            output_size(w, s, stride[1], padding[1], dilation[1]),
        )

    def pooled(self, images: tuple[int, ...]) -> tuple[int, int, int, int]:
        """(N, P, Q, C) for images (N, H, W, C)."""
        n, h, w, c = images
        return (n, *self.output_shape((h, w)), c)

    def taps(self, output: tuple[int, ...]) -> Iterator[tuple[int, int, Tap]]:
        """Yield (r, s, slices of the padded image that hold cell (r, s) of each of P×Q windows)."""
        for r in range(self.size[0]):
            for s in range(self.size[1]):
                rows, columns = (
                    slice(cell * apart, cell * apart + (count - 1) * step + 1, step)
                    for cell, apart, count, step in zip(
                        (r, s), self.dilation, output, self.stride, strict=True
                    )
                )
                yield r, s, (slice(None), rows, columns)


class Conv(NamedTuple):
    """How the kernel of a convolution slides, and into how many groups channels are cut."""

    stride: Pair = (1, 1)
    padding: Padding = NO_PADDING
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def offset(self) -> Pair:
        """Top and left padding."""
        return self.padding[0][0], self.padding[1][0]

    def window(self, kernel: tuple[int, ...]) -> Window:
        """The window of weights (R, S, …)."""
        return Window((kernel[0], kernel[1]), self.stride, self.padding, self.dilation)

    def output_shape(self, image: tuple[int, ...], kernel: tuple[int, ...]) -> Pair:
        """(P, Q) for an image (H, W) and weights (R, S, …)."""
        return self.window(kernel).output_shape(image)


def span(f: int, d: int = 1) -> int:
    """Pixels from a window's first cell to its last, both counted: (f - 1)·d + 1."""
    return (f - 1) * d + 1


def output_size(n: int, f: int, s: int, padding: Pair, d: int = 1) -> int:
    """Places for a window along one axis: floor((n + pads - span) / s) + 1; below 1, none."""
    return (n + padding[0] + padding[1] - (f - 1) * d - 1) // s + 1


def pad_image(x: Array, padding: Padding) -> Array:
    """x (N,H,W,C) with rows and columns of zeros around it: (N, top+H+bottom, left+W+right, C)."""
    if padding == NO_PADDING:
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
