"""How one convolution is cut into tiles, chunks and tasks, and its three passes by tiled.py.

All cuts follow from the shape alone, never from the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from gpukit.backends.cpu.activation.piecewise import bias_pattern
from gpukit.backends.cpu.conv import tiled
from gpukit.backends.cpu.runtime.common import ACTIVATIONS, FLOAT32, Array, flat
from gpukit.backends.cpu.runtime.memory import empty, scratch
from gpukit.backends.cpu.runtime.records import record
from gpukit.backends.cpu.runtime.threads import MOST_TASKS, cuts, for_ranges, parallel_for, tasks_of
from gpukit.backends.cpu.runtime.tile import TALLEST
from gpukit.backends.cpu.runtime.vectors import VECTOR
from gpukit.primitives.windows import NO_PADDING, Conv

# The input rows of a chunk, beside a block of weights or gradients, stay in L2.
_CHUNK_BYTES = 384 << 10
_MOST_PARTS, _PART_BYTES = 8, 32 << 20
_PART_CHUNKS = 4
_BLOCK_TASKS = 4


@cache
def registers() -> bool:
    """Whether this CPU has the 32 wide registers that tiles are made for."""
    return bool(llvm.get_host_cpu_features().get("avx512f"))


@dataclass(frozen=True, slots=True)
class Tiling:
    """One convolution's shape and cuts; `numbers` is what compiled code reads (tiled.py)."""

    output_shape: tuple[int, int, int, int]
    vectors: int
    blocks: int
    chunks: int
    padded_size: int
    gradient_size: int
    pixels: int
    places: int
    tiles: int
    numbers: Array


@lru_cache(maxsize=1024)
def make_tiling(input_shape: tuple[int, ...], kernel_shape: tuple[int, ...], conv: Conv) -> Tiling:
    """Tiling for x (N,H,W,C) and w (R,S,C/groups,K) of float32."""
    n, h, w, c = input_shape
    r, s, depth, k = kernel_shape
    rows, columns = conv.output_shape((h, w), kernel_shape)
    groups, own = conv.groups, k // conv.groups
    vectors = next(v for v in (2, 3, 1) if own % (v * VECTOR) == 0)
    wide = w + sum(conv.padding[1])
    copied = conv.padding != NO_PADDING
    # Whole images where they fit, else as many lines as do, in equal chunks.
    fitting = (_CHUNK_BYTES // (4 * wide * c) - r) // conv.stride[0] + 1
    chunks = -(-rows // max(fitting, 1))
    lines = -(-rows // chunks)
    run = s * depth if groups == 1 else depth
    places = tiled.tallest(run, TALLEST[vectors])
    tiles = -(-run // places)
    numbers = record(
        height=h, width=w, channels=c, outputs=k, rows=r, columns=s,
        p_count=rows, q_count=columns,
        step_h=conv.stride[0], step_w=conv.stride[1], top=conv.offset[0], left=conv.offset[1],
        wide=wide,  # padded rows
        groups=groups,
        vectors=vectors,  # of a block
        chunk_lines=lines,
        copied=int(copied),  # whether images go through a padded buffer
        length=run, tiles=tiles,  # of a weight gradient's run
    )  # fmt: skip
    return Tiling(
        output_shape=(n, rows, columns, k),
        vectors=vectors,
        blocks=k // (vectors * VECTOR),
        chunks=n * -(-rows // lines),
        padded_size=((lines - 1) * conv.stride[0] + r) * wide * c if copied else 0,
        gradient_size=lines * columns * vectors * VECTOR,
        pixels=tiled.tallest(columns, TALLEST[vectors]),
        places=places,
        tiles=tiles,
        numbers=numbers,
    )


def _fits(x: Array, w_dtype: Any, outputs: int, conv: Conv) -> bool:
    return (
        x.dtype == w_dtype == FLOAT32
        and x.size > 0
        and conv.dilation == (1, 1)
        and outputs % (conv.groups * VECTOR) == 0
        and registers()
    )


def supports(x: Array, w: Array, *_: Any, conv: Conv, **__: Any) -> bool:
    """Whether `conv2d` computes this."""
    return w.size > 0 and _fits(x, w.dtype, w.shape[3], conv)


def supports_weight_grad(x: Array, gy: Array, *, kernel_shape: Any, conv: Conv) -> bool:
    """Whether `weight_grad` computes this."""
    return gy.size > 0 and min(kernel_shape) > 0 and _fits(x, gy.dtype, gy.shape[3], conv)


def supports_input_grad(gy: Array, w: Array, *, input_shape: Any, conv: Conv) -> bool:
    """Whether `input_grad` computes this: stride 1, padding smaller than the kernel."""
    return (
        conv.stride == (1, 1)
        and all(max(pads) < f for pads, f in zip(conv.padding, w.shape))
        and w.size > 0
        and _fits(gy, w.dtype, input_shape[3], conv)
    )


def _run(tiling: Tiling, x: Array, packed: Array, bias: Array, y: Array, activation: int) -> None:
    loop = tiled.forward(tiling.pixels, tiling.vectors)
    tasks = cuts(tiling.chunks, min(tiling.chunks, MOST_TASKS))
    inputs, outputs = flat(x), y.reshape(-1)

    def task(i: int) -> None:
        padded = scratch(tiling.padded_size, x.dtype)
        loop(inputs, packed, bias, outputs, padded, tiling.numbers, *tasks[i], activation)

    parallel_for(len(tasks), task)


def _packed(tiling: Tiling, w: Array, pack: Any) -> Array:
    packed = empty((w.size,), w.dtype)
    for_ranges(tasks_of(tiling.blocks, w.size, 50_000), pack, flat(w), packed, tiling.numbers)
    return packed


def conv2d(
    x: Array, w: Array, b: Array | None = None, *, conv: Conv, activation: str | None = None
) -> Array:
    """As the definition's conv2d."""
    tiling = make_tiling(x.shape, w.shape, conv)
    y = empty(tiling.output_shape, x.dtype)
    if y.size:
        bias = bias_pattern(b, x.dtype, tiling.output_shape[2])
        packed = _packed(tiling, w, tiled.pack)
        _run(tiling, x, packed, bias, y, ACTIVATIONS[activation])
    return y


def input_grad(gy: Array, w: Array, *, input_shape: tuple[int, ...], conv: Conv) -> Array:
    """As the definition's conv2d_input_grad: gy convolved with the kernel turned around."""
    r, s, _, k = w.shape
    top, left = conv.offset
    _, p_count, q_count, _ = gy.shape
    around = (
        (r - 1 - top, input_shape[1] - p_count + top),
        (s - 1 - left, input_shape[2] - q_count + left),
    )
    kernel_shape = (r, s, k // conv.groups, input_shape[3])
    tiling = make_tiling(gy.shape, kernel_shape, Conv(padding=around, groups=conv.groups))
    gx = empty(tuple(input_shape), gy.dtype)
    packed = _packed(tiling, w, tiled.pack_turned)
    _run(tiling, gy, packed, np.empty(0, gy.dtype), gx, 0)
    return gx


def weight_grad(x: Array, gy: Array, *, kernel_shape: tuple[int, ...], conv: Conv) -> Array:
    """As the definition's conv2d_weight_grad, summed up in parts of the batch."""
    tiling = make_tiling(x.shape, tuple(kernel_shape), conv)
    pixels, width = tiling.places, tiling.vectors * VECTOR
    runs = kernel_shape[0] * (1 if conv.groups == 1 else kernel_shape[1])
    size = runs * tiling.tiles * pixels * width
    affordable = max(_PART_BYTES // (4 * size * tiling.blocks), 1)
    count = min(max(tiling.chunks // _PART_CHUNKS, 1), _MOST_PARTS, affordable)
    parts = cuts(tiling.chunks, count)
    ranges = cuts(tiling.blocks, min(tiling.blocks, _BLOCK_TASKS))
    sums = empty((len(parts), tiling.blocks * size), x.dtype)
    loop = tiled.weight_grad(pixels, tiling.vectors)
    inputs, gradients = flat(x), flat(gy)

    def task(i: int) -> None:
        part, block = divmod(i, len(ranges))
        padded = scratch(tiling.padded_size, x.dtype)
        packed = scratch(tiling.gradient_size, x.dtype, slot=1)
        loop(
            inputs, gradients, sums[part], padded, packed, tiling.numbers,
            *parts[part], *ranges[block],
        )  # fmt: skip

    parallel_for(len(parts) * len(ranges), task)
    gw = empty(tuple(kernel_shape), x.dtype)
    tasks = tasks_of(tiling.blocks, sums.size, 200_000)
    for_ranges(tasks, tiled.collect, sums, gw.reshape(-1), tiling.numbers, pixels)
    return gw
