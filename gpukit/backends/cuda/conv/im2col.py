"""Convolution by panels: kernels/conv/im2col.cu around products of linear.cu or of a library.

A panel holds the windows of a few images; it takes at most 64 MiB, or what one image needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from gpukit.backends.cuda.conv.shape import ConvShape
from gpukit.backends.cuda.linear.gemm import MOST, PRODUCT_KERNELS, Operand, is_packed, product
from gpukit.backends.cuda.runtime.common import BLOCK, divide_up, empty_like
from gpukit.backends.cuda.runtime.tiling import MOST_DEEP
from gpukit.errors import SettingError, ShapeError
from gpukit.launch.kernel import Kernel
from gpukit.primitives.windows import NO_PADDING

Array = Any
Product = Callable[..., None]  # called as gemm.product

PANEL_BYTES = 64 << 20

_im2col = Kernel("conv/im2col.cu", "im2col")
_col2im = Kernel("conv/im2col.cu", "col2im")
PANEL_KERNELS = (_im2col, *PRODUCT_KERNELS)
INPUT_KERNELS = (_col2im, *PANEL_KERNELS)


class Panels:
    """How the images of one convolution are cut into panels."""

    def __init__(self, shape: ConvShape, like: Array) -> None:
        self.shape = shape
        self.like = like
        pack = 16 // like.dtype.itemsize
        self.stride = divide_up(shape.window, pack) * pack  # a row ends at 16 bytes
        one = shape.conv.groups * shape.y[1] * shape.y[2] * self.stride
        self.images = max(PANEL_BYTES // (one * like.dtype.itemsize), 1)
        if divide_up(self.images * one, BLOCK) > MOST:
            raise ShapeError(
                f"im2col panel of one image of {shape.x}: {one} elements; use algo='direct'"
            )
        if shape.conv.groups > MOST_DEEP:
            raise SettingError(
                f"groups={shape.conv.groups}: im2col takes up to {MOST_DEEP}; use algo='direct'"
            )
        self._memory: Array | None = None

    @property
    def is_input(self) -> bool:
        """Whether the input itself is the panel: one pixel a window, none skipped."""
        s = self.shape
        return s.w[:2] == (1, 1) and s.conv.stride == (1, 1) and s.conv.padding == NO_PADDING

    def parts(self) -> Iterator[tuple[slice, ConvShape]]:
        """Images a panel, and the shape of their convolution."""
        count = self.shape.x[0]
        step = MOST // max(self.shape.y[1] * self.shape.y[2], 1) if self.is_input else self.images
        for first in range(0, count, max(step, 1)):
            images = slice(first, min(first + step, count))
            yield images, self.shape.part(images)

    def empty(self, part: ConvShape) -> Operand:
        """An uninitialised panel; all parts share one memory."""
        batch = part.pixels * self.stride
        if self._memory is None:
            self._memory = empty_like(self.like, (part.conv.groups * batch,))
        return Operand(self._memory[: part.conv.groups * batch], self.stride, batch)

    def fill(self, x: Array, part: ConvShape) -> Operand:
        """The windows of the images x, a row each; x itself where that is the same."""
        if self.is_input:
            return Operand(x, part.x[3], part.depth)
        panel = self.empty(part)
        packed = is_packed(x, part.depth) and is_packed(panel.array)
        packs = self.stride * x.dtype.itemsize // 16 if packed else self.stride
        _im2col.launch(
            (divide_up(part.pixels * packs, BLOCK), part.conv.groups), BLOCK, x, panel.array,
            part.struct, self.stride,
            T=x.dtype, PACKED=packed,
        )  # fmt: skip
        return panel


def forward(
    x: Array,
    w: Array,
    b: Array | None,
    shape: ConvShape,
    activation: str | None,
    multiply: Product = product,
) -> Array:
    """y of `shape`: panel · weights, group by group, with bias and activation on the way out."""
    y = empty_like(x, shape.y)
    panels = Panels(shape, x)
    for images, part in panels.parts():
        # (pixels, K/G) = (pixels, R·S·C/G) @ (R·S·C/G, K/G) for each group
        multiply(
            panels.fill(x[images], part),
            Operand(w, shape.w[3], shape.filters),
            y[images],
            (part.pixels, shape.filters, shape.window),
            stride=shape.w[3],
            batches=shape.conv.groups,
            batch=shape.filters,
            bias=b,
            activation=activation,
        )
    return y


def input_grad(gy: Array, w: Array, shape: ConvShape, multiply: Product = product) -> Array:
    """gx of `shape`: gradients · weightsᵀ into a panel, whose cells every pixel then gathers."""
    gx = empty_like(gy, shape.x)
    panels = Panels(shape, gy)
    weights = Operand(w, shape.w[3], shape.filters, transposed=True)
    for images, part in panels.parts():
        panel = panels.empty(part)
        # (pixels, R·S·C/G) = (pixels, K/G) @ (R·S·C/G, K/G)ᵀ for each group
        multiply(
            Operand(gy[images], shape.w[3], shape.filters),
            weights,
            panel.array,
            (part.pixels, shape.window, shape.filters),
            stride=panels.stride,
            batches=shape.conv.groups,
            batch=panel.batch,
        )
        out = gx[images]
        packed = is_packed(out, part.depth) and is_packed(panel.array)
        elements = out.size * gy.dtype.itemsize // 16 if packed else out.size
        _col2im.launch(
            divide_up(elements, BLOCK), BLOCK, panel.array, out,
            part.struct, panels.stride,
            T=gy.dtype, PACKED=packed,
        )  # fmt: skip
    return gx


def weight_grad(x: Array, gy: Array, shape: ConvShape, multiply: Product = product) -> Array:
    """gw of `shape`: panelᵀ · gradients, panel after panel added up in order."""
    gw = empty_like(x, shape.w)
    panels = Panels(shape, x)
    for images, part in panels.parts():
        # (R·S·C/G, K/G) = (pixels, R·S·C/G)ᵀ @ (pixels, K/G) for each group
        multiply(
            panels.fill(x[images], part)._replace(transposed=True),
            Operand(gy[images], shape.w[3], shape.filters),
            gw,
            (shape.window, shape.filters, part.pixels),
            stride=shape.w[3],
            batches=shape.conv.groups,
            batch=shape.filters,
            accumulate=images.start > 0,
        )
    return gw
