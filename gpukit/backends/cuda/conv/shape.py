"""The numbers that every convolution kernel takes, worked out once from shapes and settings.

A training loop asks for the same few at every step: `conv_shape` remembers them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import NamedTuple

from gpukit.backends.cuda.linear.gemm import MOST
from gpukit.backends.cuda.runtime.common import divide_up
from gpukit.backends.cuda.runtime.tiling import MOST_DEEP
from gpukit.errors import SettingError, ShapeError
from gpukit.primitives.windows import Conv


class ConvStruct(NamedTuple):
    """The struct Conv of kernels/conv/conv.cuh."""

    n: int
    h: int
    w: int
    c: int
    r: int
    s: int
    k: int
    p: int
    q: int
    stride_h: int
    stride_w: int
    top: int
    left: int
    dilation_h: int
    dilation_w: int
    groups: int


@dataclass(frozen=True)
class ConvShape:
    """x (N,H,W,C), w (R,S,C/groups,K), y (N,P,Q,K) and how windows slide; see `conv_shape`."""

    x: tuple[int, ...]
    w: tuple[int, ...]
    conv: Conv

    @cached_property
    def y(self) -> tuple[int, int, int, int]:
        return self.x[0], *self.conv.output_shape(self.x[1:3], self.w), self.w[3]

    @cached_property
    def depth(self) -> int:
        """Input channels of a group."""
        return self.w[2]

    @cached_property
    def filters(self) -> int:
        """Filters of a group."""
        return self.w[3] // self.conv.groups

    @cached_property
    def pixels(self) -> int:
        """Pixels of all outputs."""
        return math.prod(self.y[:3])

    @cached_property
    def window(self) -> int:
        """Products in an output of one group: R·S·C/groups."""
        return math.prod(self.w[:3])

    @cached_property
    def slide(self) -> tuple[int, ...]:
        """Strides, top and left padding, dilations, groups."""
        conv = self.conv
        return (*conv.stride, *conv.offset, *conv.dilation, conv.groups)

    @cached_property
    def struct(self) -> ConvStruct:
        """What the kernels of conv/ take."""
        return ConvStruct._make((*self.x, *self.w[:2], self.w[3], *self.y[1:3], *self.slide))

    @cached_property
    def turned(self) -> ConvStruct:
        """Of stride 1, the input gradient as a forward pass over gy, from the last tap on.

        h + padding = p + r·dilation: there p grows with h as it does in a forward pass.
        """
        (n, h, w, c), (_, p, q, k), conv = self.x, self.y, self.conv
        pads = [
            (taps - 1) * dilation - pad
            for taps, dilation, pad in zip(self.w[:2], conv.dilation, conv.offset)
        ]
        sizes = (n, p, q, k, *self.w[:2], c, h, w)
        return ConvStruct._make((*sizes, *conv.stride, *pads, *conv.dilation, conv.groups))

    @cached_property
    def phases(self) -> int:
        """Kinds of input pixels that differ in the taps which reach them."""
        return self.conv.stride[0] * self.conv.stride[1]

    @cached_property
    def phase_pixels(self) -> int:
        """Input pixels of the first phase, which has the most."""
        step_h, step_w = self.conv.stride
        return self.x[0] * divide_up(self.x[1], step_h) * divide_up(self.x[2], step_w)

    @cached_property
    def phase_window(self) -> int:
        """Products in an input gradient of one phase; with dilation some phases have more."""
        rows, columns = (divide_up(f, s) for f, s in zip(self.w[:2], self.conv.stride))
        return rows * columns * self.filters

    def runs(self, most: int = MOST) -> list[slice]:
        """The images cut into runs whose pixels, in and out, the kernels' ints can count."""
        one = max(self.x[1] * self.x[2], self.y[1] * self.y[2], 1)
        each = max(most // one, 1)
        return [slice(n, min(n + each, self.x[0])) for n in range(0, self.x[0], each)]

    def part(self, images: slice) -> ConvShape:
        """The convolution of some of the images."""
        if images == slice(0, self.x[0]):
            return self
        return replace(self, x=(images.stop - images.start, *self.x[1:]))

    def check(self) -> ConvShape:
        """Itself, if the kernels' ints can count one padded image and the weights."""
        return self._counted

    @cached_property
    def _counted(self) -> ConvShape:
        (top, bottom), (left, right) = self.conv.padding
        sizes = {
            "a padded image": (self.x[1] + top + bottom) * (self.x[2] + left + right) * self.x[3],
            "an output image": math.prod(self.y[1:]),
            "the weights": math.prod(self.w),
        }
        for what, size in sizes.items():
            if size > MOST:
                raise ShapeError(
                    f"convolution of {self.x} with weights {self.w}: {what} has {size} elements, "
                    f"kernels count to {MOST}; cut the images, or use algo='reference'"
                )
        return self


@lru_cache(maxsize=1024)
def conv_shape(x: tuple[int, ...], w: tuple[int, ...], conv: Conv) -> ConvShape:
    """The ConvShape of these numbers."""
    return ConvShape(tuple(x), tuple(w), conv)


def deep(blocks: int, shape: ConvShape) -> int:
    """Blocks along z, which a card limits to 65535."""
    if blocks > MOST_DEEP:
        conv = shape.conv
        raise SettingError(
            f"convolution of {shape.x} with groups={conv.groups}, stride {conv.stride}: groups "
            f"times strides is {blocks}, kernels take up to {MOST_DEEP}; use algo='reference'"
        )
    return blocks
