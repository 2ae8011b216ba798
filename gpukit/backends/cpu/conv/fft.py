"""Convolution as a product of spectra: to be raced; on small kernels the others win.

A correlation of a padded image with a kernel is, at every frequency, one product of matrices:

    Y[f] (N, K) = X[f] (N, C) @ conj(W[f]) (C, K)

The transform is as large as the padded image, so only outputs that wrap around are wrong, and those
are the ones that no window gives. Strides are taken from the dense result. Mathieu, Henaff and
LeCun, "Fast training of convolutional networks through FFTs", 2013.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpukit.backends.cpu.activation.piecewise import bias_pattern, finish
from gpukit.backends.cpu.conv.plan import make_plan
from gpukit.backends.cpu.runtime.common import ACTIVATIONS, Array, same_floats
from gpukit.backends.cpu.runtime.threads import cuts, parallel_for
from gpukit.primitives.windows import Conv, Padding, Pair

# Spectra are complex and nearly twice as large as the image; beyond this, the others are used.
_MOST_BYTES = 1 << 30
_MOST_TASKS = 16


def good_size(least: int) -> int:
    """The smallest product of 2s, 3s and 5s that is at least `least`: fast to transform."""
    size = max(least, 1)
    while True:
        rest = size
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 1


def _sizes(shape: tuple[int, ...], padding: Padding) -> Pair:
    return good_size(shape[1] + sum(padding[0])), good_size(shape[2] + sum(padding[1]))


def supports(x: Array, w: Array, *_: Any, conv: Conv, **__: Any) -> bool:
    """One group, no dilation, spectra of reasonable size."""
    if not same_floats(x, w) or conv.groups > 1 or conv.dilation != (1, 1):
        return False
    rows, columns = _sizes(x.shape, conv.padding)
    n, c, k = x.shape[0], w.shape[2], w.shape[3]
    places = rows * (columns // 2 + 1)
    return places * (n * c + c * k + n * k) * 2 * x.itemsize <= _MOST_BYTES


def conv2d(
    x: Array, w: Array, b: Array | None = None, *, conv: Conv, activation: str | None = None
) -> Array:
    """As the definition's conv2d, within `supports`."""
    plan = make_plan(x.shape, w.shape, conv, x.itemsize)
    n, p, q, k = plan.output_shape
    y = np.empty(plan.output_shape, x.dtype)
    if y.size == 0:
        return y
    rows, columns = _sizes(x.shape, conv.padding)
    frequencies = columns // 2 + 1
    depth = x.shape[3]
    complex_type = np.result_type(x.dtype, np.complex64)
    (top, left), (step_h, step_w) = conv.offset, conv.stride
    images = np.empty((rows, frequencies, n, depth), complex_type)
    products = np.empty((rows, frequencies, n, k), complex_type)
    # (rows, frequencies, C, K)
    kernels = np.conj(np.fft.rfft2(w, s=(rows, columns), axes=(0, 1)))
    batches, bands = cuts(n, min(n, _MOST_TASKS)), cuts(rows, min(rows, _MOST_TASKS))

    def transform(i: int) -> None:
        first, last = batches[i]
        padded = np.zeros((last - first, rows, columns, depth), x.dtype)
        padded[:, top : top + x.shape[1], left : left + x.shape[2]] = x[first:last]
        spectrum = np.fft.rfft2(padded, axes=(1, 2))
        images[:, :, first:last] = spectrum.transpose(1, 2, 0, 3)

    def multiply(i: int) -> None:
        band = slice(*bands[i])
        np.matmul(images[band], kernels[band], out=products[band])

    def back(i: int) -> None:
        first, last = batches[i]
        spectrum = products[:, :, first:last].transpose(2, 0, 1, 3)
        dense = np.fft.irfft2(spectrum, s=(rows, columns), axes=(1, 2))
        y[first:last] = dense[:, : p * step_h : step_h, : q * step_w : step_w]
        out = y[first:last].reshape(-1)
        finish(out, out.size // k, k, k, bias, ACTIVATIONS[activation])

    bias = bias_pattern(b, x.dtype, q)
    parallel_for(len(batches), transform)
    parallel_for(len(bands), multiply)
    parallel_for(len(batches), back)
    return y
