"""Oracles: the formulas as float64 Python loops, one output element at a time.

Independent of gpukit on purpose: nothing is imported from it, nothing is vectorised, and each
gradient is the transposed loop of its forward pass. For tiny shapes only. Settings are read by
position: `conv` (stride, padding, dilation, groups), `window` (size, stride, padding, dilation),
`response` (size, alpha, beta, k, groups).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]
Conv = tuple[Pair, Padding, Pair, int]  # stride, padding, dilation, groups


def size_out(n: int, f: int, s: int, pads: Pair, d: int = 1) -> int:
    """Count the places of the window by sliding it."""
    first, count = 0, 0
    while first + (f - 1) * d + 1 <= n + pads[0] + pads[1]:
        first, count = first + s, count + 1
    return count


def _cells(
    image: Pair, window: Pair, stride: Pair, padding: Padding, dilation: Pair
) -> Iterator[tuple[int, int, int, int, int, int]]:
    """Every (p, q, r, s, row, column) whose pixel is inside the image."""
    (h, w), (rows, columns) = image, window
    for p in range(size_out(h, rows, stride[0], padding[0], dilation[0])):
        for q in range(size_out(w, columns, stride[1], padding[1], dilation[1])):
            for r in range(rows):
                for s in range(columns):
                    i = p * stride[0] + r * dilation[0] - padding[0][0]
                    j = q * stride[1] + s * dilation[1] - padding[1][0]
                    if 0 <= i < h and 0 <= j < w:
                        yield p, q, r, s, i, j


def _products(
    x_shape: tuple[int, ...], w_shape: tuple[int, ...], conv: Conv
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
    """Index triples (of x, of w, of y) of every product that a convolution adds up."""
    n, h, w, _ = x_shape
    rows, columns, c_group, k_all = w_shape
    for p, q, r, s, i, j in _cells((h, w), (rows, columns), *conv[:3]):
        for b in range(n):
            for k in range(k_all):
                group = k // (k_all // conv[3])
                for c in range(c_group):
                    yield (b, i, j, group * c_group + c), (r, s, c, k), (b, p, q, k)


def conv2d(x, w, b=None, *, conv):
    """y[n,p,q,k] = b[k] + Σ x·w."""
    stride, padding, dilation, _ = conv
    p, q = (
        size_out(x.shape[1 + a], w.shape[a], stride[a], padding[a], dilation[a]) for a in range(2)
    )
    y = np.zeros((x.shape[0], p, q, w.shape[3]))
    for at_x, at_w, at_y in _products(x.shape, w.shape, conv):
        y[at_y] += float(x[at_x]) * float(w[at_w])
    return y if b is None else y + b.astype(np.float64)


def conv2d_input_grad(gy, w, *, input_shape, conv):
    """gx of every pixel: Σ gy·w over the products that it is in."""
    gx = np.zeros(input_shape)
    for at_x, at_w, at_y in _products(input_shape, w.shape, conv):
        gx[at_x] += float(gy[at_y]) * float(w[at_w])
    return gx


def conv2d_weight_grad(x, gy, *, kernel_shape, conv):
    """gw of every weight: Σ x·gy over the products that it is in."""
    gw = np.zeros(kernel_shape)
    for at_x, at_w, at_y in _products(x.shape, kernel_shape, conv):
        gw[at_w] += float(x[at_x]) * float(gy[at_y])
    return gw


def _outputs(x, window):
    size, stride, padding, _ = window
    return [size_out(x.shape[1 + a], size[a], stride[a], padding[a]) for a in range(2)]


def max_pool2d(x, *, window):
    """(largest, its row-major number in the window): first of equals, the first NaN before all."""
    n, h, w, channels = x.shape
    p, q = _outputs(x, window)
    y = np.full((n, p, q, channels), -math.inf)
    index = np.full((n, p, q, channels), -1)
    for p, q, r, s, i, j in _cells((h, w), *window):
        for b in range(n):
            for c in range(channels):
                value, best = float(x[b, i, j, c]), y[b, p, q, c]
                if index[b, p, q, c] < 0 or (
                    not math.isnan(best) and (value > best or math.isnan(value))
                ):
                    y[b, p, q, c], index[b, p, q, c] = value, r * window[0][1] + s
    return y, index


def max_pool2d_grad(gy, index, *, input_shape, window):
    """gy to the pixel with the number `index`."""
    gx = np.zeros(input_shape)
    for p, q, r, s, i, j in _cells(input_shape[1:3], *window):
        for b in range(input_shape[0]):
            for c in range(input_shape[3]):
                if index[b, p, q, c] == r * window[0][1] + s:
                    gx[b, i, j, c] += float(gy[b, p, q, c])
    return gx


def avg_pool2d(x, *, window):
    """Mean of the window's pixels that are inside the image."""
    p, q = _outputs(x, window)
    total, count = np.zeros((x.shape[0], p, q, x.shape[3])), np.zeros((p, q, 1))
    for p, q, _, _, i, j in _cells(x.shape[1:3], *window):
        total[:, p, q] += x[:, i, j].astype(np.float64)
        count[p, q] += 1
    return total / count


def avg_pool2d_grad(gy, *, input_shape, window):
    """gy in equal parts to the pixels of its window."""
    gx, count = np.zeros(input_shape), np.zeros(gy.shape[1:3])
    for p, q, *_ in _cells(input_shape[1:3], *window):
        count[p, q] += 1
    for p, q, _, _, i, j in _cells(input_shape[1:3], *window):
        gx[:, i, j] += gy[:, p, q].astype(np.float64) / count[p, q]
    return gx


def dense(x, w, b=None):
    """y[n,k] = b[k] + Σ x[n,c]·w[c,k]."""
    y = np.zeros((x.shape[0], w.shape[1]))
    for n in range(x.shape[0]):
        for k in range(w.shape[1]):
            y[n, k] = math.fsum(float(x[n, c]) * float(w[c, k]) for c in range(x.shape[1]))
    return y if b is None else y + b.astype(np.float64)


def lrn(x, *, response):
    """x/(k + alpha/size·Σ x²)^beta, neighbours by an if for each pair of channels."""
    size, alpha, beta, k, groups = response
    y = np.zeros(x.shape)
    channels = x.shape[-1]
    per_group = channels // groups
    for at in np.ndindex(x.shape[:-1]):
        for c in range(channels):
            total = math.fsum(
                float(x[at][e]) ** 2
                for e in range(channels)
                if e // per_group == c // per_group and c - size // 2 <= e <= c + (size - 1) // 2
            )
            y[*at, c] = float(x[at][c]) / (k + alpha / size * total) ** beta
    return y


def batch_norm(x, gamma, beta, *, epsilon):
    """(y, mean, biased variance), channel by channel."""
    rows = x.reshape(-1, x.shape[-1]).astype(np.float64)
    y, means, variances = np.zeros(rows.shape), [], []
    for c in range(x.shape[-1]):
        values = [float(v) for v in rows[:, c]]
        mean = math.fsum(values) / len(values)
        variance = math.fsum((v - mean) ** 2 for v in values) / len(values)
        for i, v in enumerate(values):
            y[i, c] = float(gamma[c]) * (v - mean) / math.sqrt(variance + epsilon) + float(beta[c])
        means.append(mean)
        variances.append(variance)
    return y.reshape(x.shape), np.array(means), np.array(variances)


def softmax(x):
    """exp(x)/Σ exp(x) of each row, shifted by its maximum."""
    rows = np.zeros(x.shape)
    for i in range(x.shape[0]):
        largest = max(float(v) for v in x[i])
        terms = [math.exp(float(v) - largest) for v in x[i]]
        rows[i] = [t / math.fsum(terms) for t in terms]
    return rows


def philox4x32(counter: tuple[int, ...], key: Pair) -> tuple[int, ...]:
    """Philox4x32-10 in Python integers (Salmon et al., 2011, section 3.3)."""
    a, b, c, d = counter
    first, second = key
    for _ in range(10):
        left, right = a * 0xD2511F53, c * 0xCD9E8D57
        a, b, c, d = (
            (right >> 32) ^ b ^ first,
            right & 0xFFFFFFFF,
            (left >> 32) ^ d ^ second,
            left & 0xFFFFFFFF,
        )
        first, second = (first + 0x9E3779B9) & 0xFFFFFFFF, (second + 0xBB67AE85) & 0xFFFFFFFF
    return a, b, c, d


def words(count: int, *, seed: int, layer: int, step: int) -> list[int]:
    """The first `count` random words of an array, one at a time."""
    key = (seed & 0xFFFFFFFF, seed >> 32)
    return [
        philox4x32((e // 4 & 0xFFFFFFFF, e // 4 >> 32, layer, step), key)[e % 4]
        for e in range(count)
    ]


def numerical_gradient(function, x, gy, step=1e-6):
    """Σ gy·∂y/∂x by central differences, one element of x (float64) at a time."""
    gx = np.zeros(x.shape)
    for at in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[at] += step
        down[at] -= step
        gx[at] = np.sum(gy * (function(up) - function(down))) / (2 * step)
    return gx
