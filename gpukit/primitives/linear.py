"""Fully connected layers: one GEMM forward, one for each gradient."""

from __future__ import annotations

import numpy as np

from gpukit.dispatch.primitive import primitive
from gpukit.primitives.accumulate import Array, wide
from gpukit.primitives.activation import activate


@primitive
def dense(x: Array, w: Array, b: Array | None = None, *, activation: str | None = None) -> Array:
    """y = φ(x·w + b): x (N, in), w (in, out), b (out,) or None -> y (N, out), one float dtype.

    `activation` φ: None, "relu", "sigmoid" or "tanh". Half types accumulate in float32.
    """
    # (N, out) = (N, in) @ (in, out)
    y = np.matmul(wide(x), wide(w))
    if b is not None:
        y = y + b
    return activate(y, activation).astype(x.dtype, copy=False)


@primitive
def dense_input_grad(gy: Array, w: Array) -> Array:
    """gx = gy·wᵀ: gy (N, out), w (in, out) -> gx (N, in)."""
    # (N, in) = (N, out) @ (out, in)
    return np.matmul(wide(gy), np.transpose(wide(w))).astype(gy.dtype, copy=False)


@primitive
def dense_weight_grad(x: Array, gy: Array) -> Array:
    """gw = xᵀ·gy: x (N, in), gy (N, out) -> gw (in, out); zeros for an empty batch."""
    # (in, out) = (in, N) @ (N, out)
    return np.matmul(np.transpose(wide(x)), wide(gy)).astype(x.dtype, copy=False)


@primitive
def matmul(a: Array, b: Array) -> Array:
    """Matrix product of two matrices of one float dtype: a (M, L), b (L, N) -> (M, N)."""
    # (M, N) = (M, L) @ (L, N)
    return np.matmul(wide(a), wide(b)).astype(a.dtype, copy=False)
