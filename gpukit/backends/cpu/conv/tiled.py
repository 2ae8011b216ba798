"""Convolution by tiles of sums in registers, straight from the images: no panel, no BLAS.

A tile is up to 14 neighbouring pixels of an output line by 32 output channels (tile.py). Its
inputs are read where they lie: in NHWC pixel i of the tile is i·stride·C values further on. What
is copied is small: weights are packed once a call, 32 channels by 32,

    packed[group, block, r, s, c, channel of the block]

so that the loop reads them in order, and an image that is padded goes through a buffer in L2, some
lines at a time. The gradient by the input at stride 1 is the same loop over gy with the kernel
turned around. The gradient by the weights is a tile too: 14 places of a kernel row by 32 filters,
summed over the pixels of some lines.

`plan` is `Tiling.numbers` of tiling.py.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from gpukit.backends.cpu.activation.piecewise import finish
from gpukit.backends.cpu.runtime.jit import at, jit
from gpukit.backends.cpu.runtime.tile import tile
from gpukit.backends.cpu.runtime.vectors import VECTOR, clear_run, copy_run


@jit
def pack(w, packed, plan, first, last):  # type: ignore[no-untyped-def]
    """Blocks first … last of the weights w (R·S, C/G, K) in the order of `forward`."""
    conv = plan[0]
    outputs, groups, width = conv.outputs, conv.groups, conv.vectors * VECTOR
    cells = conv.rows * conv.columns * (conv.channels // groups)
    for block in range(first, last):
        out = block * cells * width
        for cell in range(cells):
            copy_run(packed, out + cell * width, w, cell * outputs + block * width, width)


@jit
def pack_turned(w, packed, plan, first, last):  # type: ignore[no-untyped-def]
    """Blocks of the weights of the gradient by the input: a convolution of gy, C and K swapped.

    `plan` is of that convolution: packed[…, r, s, k, c] = w[R - 1 - r, S - 1 - s, c, k].
    """
    conv = plan[0]
    outputs, groups, width = conv.channels, conv.groups, conv.vectors * VECTOR
    cells, depth, kernels = conv.rows * conv.columns, conv.outputs // groups, outputs // groups
    blocks = depth // width
    for block in range(first, last):
        group, own = divmod(block, blocks)
        out = block * cells * kernels * width
        for cell in range(cells):
            source = ((cells - 1 - cell) * depth + own * width) * outputs + group * kernels
            for k in range(kernels):
                for c in range(width):
                    packed[at(out + c)] = w[at(source + c * outputs + k)]
                out += width


@jit
def _rows_under(x, padded, plan, image, first_line, last_line):  # type: ignore[no-untyped-def]
    """Copy the input rows under some output lines of an image, with their padding."""
    conv = plan[0]
    height, row = conv.height, conv.width * conv.channels
    wide, left = conv.wide * conv.channels, conv.left * conv.channels
    above = first_line * conv.step_h - conv.top
    for i in range((last_line - first_line - 1) * conv.step_h + conv.rows):
        out = i * wide
        if above + i < 0 or above + i >= height:
            clear_run(padded, out, wide)
        else:
            clear_run(padded, out, left)
            copy_run(padded, out + left, x, (image * height + above + i) * row, row)
            clear_run(padded, out + left + row, wide - left - row)


@cache
def forward(pixels: int, vectors: int) -> Any:
    """Compiled: chunks first … last of y, in tiles of `pixels` × `vectors`."""

    @jit
    def run(x, packed, bias, y, padded, plan, first, last, activation):  # type: ignore[no-untyped-def]
        conv = plan[0]
        height, channels, outputs = conv.height, conv.channels, conv.outputs
        rows, columns = conv.rows, conv.columns
        p_count, q_count, step_h, step_w = conv.p_count, conv.q_count, conv.step_h, conv.step_w
        wide, groups = conv.wide, conv.groups
        chunk_lines, copied = conv.chunk_lines, conv.copied == 1
        depth, kernels, width = channels // groups, outputs // groups, vectors * VECTOR
        chunks = -(-p_count // chunk_lines)
        tiles = -(-q_count // pixels)
        cells, length = (1, columns * depth) if groups == 1 else (columns, depth)
        source = padded if copied else x
        for chunk in range(first, last):
            image, own = divmod(chunk, chunks)
            top = own * chunk_lines
            lines = min(chunk_lines, p_count - top)
            start = (image * height + top * step_h) * wide * channels
            if copied:
                _rows_under(x, padded, plan, image, top, top + lines)
                start = 0
            out = (image * p_count + top) * q_count * outputs
            for block in range(outputs // width):
                place = block * rows * columns * depth * width
                group = block * width // kernels * depth
                for line in range(lines):
                    for t in range(tiles):
                        # The last tile is moved back to end with the line.
                        q = min(t * pixels, q_count - pixels)
                        tile(
                            y, out + (line * q_count + q) * outputs + block * width, outputs, False,
                            source,
                            start + (line * step_h * wide + q * step_w) * channels + group,
                            step_w * channels, 1, packed, place, width,
                            rows, wide * channels, cells, channels, length, pixels, vectors,
                        )  # fmt: skip
            if activation != 0 or len(bias) > 0:
                finish(y[out:], lines * q_count, outputs, outputs, bias, activation)

    return run


@cache
def weight_grad(pixels: int, vectors: int) -> Any:
    """Compiled: what chunks first … last give to some blocks of the gradient by the weights.

    `sums` (blocks, runs, tiles, pixels, 16·vectors): a run is a kernel row, or with groups one of
    its cells, cut into tiles of `pixels` places of which the last may overlap the one before.
    `packed` holds a block of gy: read where it lies, K values apart, it would not stay in L1.
    """

    @jit
    def run(x, gy, sums, padded, packed, plan, first, last, first_block, last_block):  # type: ignore[no-untyped-def]
        conv = plan[0]
        height, channels, outputs = conv.height, conv.channels, conv.outputs
        p_count, q_count, step_h, step_w = conv.p_count, conv.q_count, conv.step_h, conv.step_w
        wide, groups = conv.wide, conv.groups
        chunk_lines, copied = conv.chunk_lines, conv.copied == 1
        length, tiles = conv.length, conv.tiles
        depth, kernels, width = channels // groups, outputs // groups, vectors * VECTOR
        cells = 1 if groups == 1 else conv.columns
        chunks = -(-p_count // chunk_lines)
        source = padded if copied else x
        for chunk in range(first, last):
            image, own = divmod(chunk, chunks)
            top = own * chunk_lines
            lines = min(chunk_lines, p_count - top)
            start = (image * height + top * step_h) * wide * channels
            if copied:
                _rows_under(x, padded, plan, image, top, top + lines)
                start = 0
            gradient = (image * p_count + top) * q_count * outputs
            for block in range(first_block, last_block):
                group = block * width // kernels * depth
                for pixel in range(lines * q_count):
                    place = gradient + pixel * outputs + block * width
                    copy_run(packed, pixel * width, gy, place, width)
                out = block * conv.rows * cells * tiles * pixels * width
                for r in range(conv.rows):
                    for s in range(cells):
                        run_start = start + (r * wide + s) * channels + group
                        for t in range(tiles):
                            c = min(t * pixels, length - pixels)
                            tile(
                                sums, out, width, chunk != first,
                                source, run_start + c, 1, step_w * channels,
                                packed, 0, width,
                                lines, step_h * wide * channels, 1, 0, q_count, pixels, vectors,
                            )  # fmt: skip
                            out += pixels * width

    return run


@jit
def collect(parts, gw, plan, pixels, first, last):  # type: ignore[no-untyped-def]
    """gw = the sums of all `parts` of `weight_grad`, blocks first … last put in their places."""
    conv = plan[0]
    outputs, rows, groups, width = conv.outputs, conv.rows, conv.groups, conv.vectors * VECTOR
    length, tiles = conv.length, conv.tiles
    runs = rows * (1 if groups == 1 else conv.columns)
    for block in range(first, last):
        source = block * runs * tiles * pixels * width
        for place in range(runs):
            for t in range(tiles):
                c = min(t * pixels, length - pixels)
                for i in range(pixels):
                    out = (place * length + c + i) * outputs + block * width
                    for j in range(width):
                        gw[at(out + j)] = parts[0, at(source + j)]
                    for part in range(1, parts.shape[0]):
                        for j in range(width):
                            gw[at(out + j)] += parts[at(part), at(source + j)]
                    source += width


def tallest(length: int, most: int) -> int:
    """The height of equal tiles for `length` pixels or places, as few as `most` allows."""
    return -(-length // -(-length // most))
