"""Convolution (cross-correlation, as the field uses the word) with its three gradients.

Dumoulin and Visin, "A guide to convolution arithmetic for deep learning" (2016); Goodfellow et
al., "Deep Learning", chapter 9. Letters: N batch, H W image, C input channels, K output channels,
R S kernel, P Q output, G groups. All three passes walk the R·S cells of the kernel, one GEMM a cell
and group:

    forward           y      +=  x[cell] @ w[r, s]
    input gradient    gx[cell] += gy @ w[r, s]ᵀ
    weight gradient   gw[r, s] = x[cell]ᵀ @ gy
"""

from __future__ import annotations

import numpy as np

from gpukit.dispatch.primitive import primitive
from gpukit.primitives.accumulate import Array, long_sum, wide
from gpukit.primitives.activation import activate
from gpukit.primitives.windows import Conv, crop_image, pad_image, zeros_padded


def _by_group(x: Array, groups: int) -> Array:
    """(N,P,Q,C) -> (G, N·P·Q, C/G)."""
    n, p, q, c = x.shape
    return np.transpose(np.reshape(x, (n * p * q, groups, c // groups)), (1, 0, 2))


def _from_groups(x: Array, image: tuple[int, int, int]) -> Array:
    """(G, N·P·Q, C/G) -> (N,P,Q,C)."""
    groups, _, c = x.shape
    return np.reshape(np.transpose(x, (1, 0, 2)), (*image, groups * c))


def _weights_by_group(w: Array, groups: int) -> Array:
    """(R,S,C/G,K) -> (R,S, G, C/G, K/G)."""
    r, s, c, k = w.shape
    return np.transpose(np.reshape(w, (r, s, c, groups, k // groups)), (0, 1, 3, 2, 4))


@primitive
def conv2d(
    x: Array, w: Array, b: Array | None = None, *, conv: Conv, activation: str | None = None
) -> Array:
    """y[n,p,q,k] = φ(b[k] + Σ_{r,s,c} x[n, p·stride + r·dilation - pad, …, c] · w[r,s,c,k]).

    x (N,H,W,C), w (R,S,C/groups,K), b (K,) or None -> y (N,P,Q,K), all of one float dtype.
    Output channels k of group g see input channels of group g only. Padding is zeros.
    `activation` φ: None, "relu", "sigmoid" or "tanh".
    Half types accumulate in float32.
    """
    groups, window = conv.groups, conv.window(w.shape)
    padded, kernel = pad_image(wide(x), conv.padding), _weights_by_group(wide(w), groups)
    n, p, q = image = (x.shape[0], *window.output_shape(x.shape[1:3]))
    y = np.zeros_like(padded, shape=(groups, n * p * q, w.shape[3] // groups))
    for r, s, tap in window.taps((p, q)):
        # (G, N·P·Q, K/G) += (G, N·P·Q, C/G) @ (G, C/G, K/G)
        y += np.matmul(_by_group(padded[tap], groups), kernel[r, s])
    y = _from_groups(y, image)
    if b is not None:
        y = y + b
    return activate(y, activation).astype(x.dtype, copy=False)


@primitive
def conv2d_input_grad(gy: Array, w: Array, *, input_shape: tuple[int, ...], conv: Conv) -> Array:
    """Gradient of a loss by conv2d's input: gy (N,P,Q,K), w (R,S,C/groups,K) -> gx `input_shape`.

    Pixels that no window reads get 0.
    """
    n, p, q, _ = gy.shape
    kernel, gradient = _weights_by_group(wide(w), conv.groups), _by_group(wide(gy), conv.groups)
    padded = zeros_padded(gradient, input_shape, conv.padding)
    for r, s, tap in conv.window(w.shape).taps((p, q)):
        # (G, N·P·Q, C/G) = (G, N·P·Q, K/G) @ (G, K/G, C/G)
        cell = np.matmul(gradient, np.transpose(kernel[r, s], (0, 2, 1)))
        padded[tap] += _from_groups(cell, (n, p, q))
    return crop_image(padded, input_shape, conv.padding).astype(gy.dtype, copy=False)


@primitive
def conv2d_weight_grad(x: Array, gy: Array, *, kernel_shape: tuple[int, ...], conv: Conv) -> Array:
    """Gradient of a loss by conv2d's weights: x (N,H,W,C), gy (N,P,Q,K) -> gw `kernel_shape`.

    `kernel_shape` is (R,S,C/groups,K). An empty batch gives zeros.
    """
    rows, columns, c, k = kernel_shape
    groups = conv.groups
    padded, gradient = pad_image(wide(x), conv.padding), _by_group(wide(gy), groups)
    gw = np.zeros_like(gradient, shape=(rows, columns, c, groups, k // groups))
    for r, s, tap in conv.window(kernel_shape).taps(gy.shape[1:3]):
        # (G, C/G, K/G) = (G, C/G, N·P·Q) @ (G, N·P·Q, K/G)
        cell = np.matmul(np.transpose(_by_group(padded[tap], groups), (0, 2, 1)), gradient)
        gw[r, s] = np.transpose(cell, (1, 0, 2))
    return np.reshape(gw, kernel_shape).astype(x.dtype, copy=False)


@primitive
def bias_grad(gy: Array) -> Array:
    """Gradient of a loss by the bias of conv2d or dense: gy (…,K) summed over all but K -> (K,)."""
    return long_sum(gy, tuple(range(gy.ndim - 1)))
