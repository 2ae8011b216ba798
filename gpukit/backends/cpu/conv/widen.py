"""Few channels: several pixels of a line computed as the channels of one.

A GEMM with 6 output channels reaches 35 GFLOP/s on a core that does 250, and its panel is made of
runs of S·C = 5 values. Both are cured by one rewriting. Take t neighbouring pixels of a line as one
pixel of t·K channels; its window is then (t-1)·stride + S columns wide, stride t·stride, and

    wide[r, i·stride + s, c, i·K + k] = w[r, s, c, k]     for the i-th of the t pixels, else 0

    i = 0   w0 w1 w2  .  .          x (one kernel row of the window of t = 3 pixels)
    i = 1    . w0 w1 w2  .
    i = 2    .  . w0 w1 w2

The output (N, P, Q/t, t·K) has the very bytes of (N, P, Q, K). The zeros cost operations, but the
operations become cheaper and the copies fewer. LeNet-5's first layer (28×28, 5×5, 1→6 channels),
t = 7: 2.2 times the multiply-adds at 4 times the speed, and 3 times fewer values copied in longer
runs.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from gpukit.backends.cpu.runtime.common import Array
from gpukit.backends.cpu.runtime.jit import jit
from gpukit.primitives.windows import Conv

# Widening stops where GEMMs are efficient, or where zeros make up most of the work.
_ENOUGH_CHANNELS = 64
_MOST_WASTE = 2.5


@lru_cache(maxsize=1024)
def pixels_together(kernel_shape: tuple[int, ...], q_count: int, conv: Conv) -> int:
    """How many pixels of a line to take as one; a divisor of the line's length, often 1."""
    _, columns, _, outputs = kernel_shape
    if conv.groups > 1 or conv.dilation[1] > 1 or outputs * 2 > _ENOUGH_CHANNELS or columns == 1:
        return 1
    best = 1
    for t in range(2, q_count + 1):
        waste = ((t - 1) * conv.stride[1] + columns) / columns
        if t * outputs > _ENOUGH_CHANNELS or waste > _MOST_WASTE:
            break
        if q_count % t == 0:
            best = t
    return best


@jit
def _spread(w, wide, t, stride):  # type: ignore[no-untyped-def]
    rows, columns, channels, outputs = w.shape
    for r in range(rows):
        for i in range(t):
            for s in range(columns):
                for c in range(channels):
                    for k in range(outputs):
                        wide[r, i * stride + s, c, i * outputs + k] = w[r, s, c, k]


@jit
def _fold(wide, w, t, stride):  # type: ignore[no-untyped-def]
    rows, columns, channels, outputs = w.shape
    for r in range(rows):
        for i in range(t):
            for s in range(columns):
                for c in range(channels):
                    for k in range(outputs):
                        v = wide[r, i * stride + s, c, i * outputs + k]
                        w[r, s, c, k] = v if i == 0 else w[r, s, c, k] + v


def widened_shape(kernel_shape: tuple[int, ...], t: int, stride: int) -> tuple[int, ...]:
    """Shape of the kernel that computes t pixels as one."""
    rows, columns, channels, outputs = kernel_shape
    return rows, (t - 1) * stride + columns, channels, t * outputs


def widened(conv: Conv, t: int) -> Conv:
    """How that kernel slides."""
    return conv._replace(stride=(conv.stride[0], t * conv.stride[1]))


def spread(w: Array, t: int, stride: int) -> Array:
    """The kernel for t pixels as one: w (R,S,C,K) -> (R, (t-1)·stride + S, C, t·K)."""
    wide = np.zeros(widened_shape(w.shape, t, stride), w.dtype)
    _spread(w, wide, t, stride)
    return wide


def fold(wide: Array, kernel_shape: tuple[int, ...], t: int, stride: int) -> Array:
    """Gradient by w from the gradient by `spread(w)`: each value collects its t places."""
    w = np.empty(kernel_shape, wide.dtype)
    _fold(wide, w, t, stride)
    return w
