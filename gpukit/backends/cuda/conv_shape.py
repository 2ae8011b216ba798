"""The numbers that every convolution kernel takes, worked out once from arrays and settings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from gpukit.backends.cuda.gemm import MOST
from gpukit.backends.reference.windows import Padding, Pair, output_shape
from gpukit.errors import ShapeError


@dataclass(frozen=True)
class ConvShape:
    """x (N,H,W,C), w (R,S,C/groups,K), y (N,P,Q,K) and how windows slide."""

    x: tuple[int, ...]
    w: tuple[int, ...]
    stride: Pair
    padding: Padding
    dilation: Pair
    groups: int

    @cached_property
    def y(self) -> tuple[int, int, int, int]:
        rows, columns = output_shape(
            (self.x[1], self.x[2]), (self.w[0], self.w[1]), self.stride, self.padding, self.dilation
        )
        return self.x[0], rows, columns, self.w[3]

    @property
    def depth(self) -> int:
        """Input channels of a group."""
        return self.w[2]

    @property
    def filters(self) -> int:
        """Filters of a group."""
        return self.w[3] // self.groups

    @property
    def pixels(self) -> int:
        """Pixels of all outputs."""
        return math.prod(self.y[:3])

    @property
    def window(self) -> int:
        """Products in an output of one group: R·S·C/groups."""
        return math.prod(self.w[:3])

    @property
    def slide(self) -> tuple[int, ...]:
        """Strides, top and left padding, dilations, groups."""
        pads = (self.padding[0][0], self.padding[1][0])
        return (*self.stride, *pads, *self.dilation, self.groups)

    @property
    def numbers(self) -> tuple[int, ...]:
        """N, H, W, C, R, S, K, P, Q and `slide`: what kernels of conv_direct*.cu take."""
        return (*self.x, *self.w[:2], self.w[3], *self.y[1:3], *self.slide)

    def check(self) -> ConvShape:
        """Itself, if the kernels' ints can count its pixels, one padded image and the weights."""
        (top, bottom), (left, right) = self.padding
        sizes = {
            "a padded image": (self.x[1] + top + bottom) * (self.x[2] + left + right) * self.x[3],
            "an output image": math.prod(self.y[1:]),
            "the weights": math.prod(self.w),
            "the pixels of the inputs": math.prod(self.x[:3]),
            "the pixels of the outputs": self.pixels,
        }
        for what, size in sizes.items():
            if size > MOST:
                raise ShapeError(
                    f"convolution of {self.x} with weights {self.w}: {what} number {size}, kernels "
                    f"count to {MOST}; use fewer images a batch, or algo='reference'"
                )
        return self
