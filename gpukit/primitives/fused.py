"""What follows a convolution in AlexNet, as one pass: bias, ReLU, response normalisation, max-pool.

Fusing keeps the values between from ever reaching memory; the gradient works them out again from
the convolution's bare output.
"""

from __future__ import annotations

import numpy as np

from gpukit.dispatch.primitive import primitive
from gpukit.primitives.accumulate import Array, long_sum
from gpukit.primitives.normalisation import Response, lrn, lrn_grad
from gpukit.primitives.pool import max_pool2d, max_pool2d_grad
from gpukit.primitives.windows import Window


def _activated(x: Array, bias: Array | None, relu: bool) -> Array:
    """x + bias, and of that the positive part where `relu`."""
    a = x if bias is None else x + bias
    return np.maximum(a, 0) if relu else a


@primitive
def bias_relu_lrn_pool(
    x: Array, bias: Array | None, *, relu: bool, response: Response, window: Window
) -> tuple[Array, Array]:
    """max_pool2d(lrn(relu(x + bias))): y, and which cell of its window won.

    x (N,H,W,C), bias (C,) or None -> y (N,P,Q,C) of x's dtype, index (N,P,Q,C) as max_pool2d's:
    uint8 up to 256 cells a window. Settings as of lrn and max_pool2d; relu=False leaves ReLU out.
    Krizhevsky et al., 2012, 3.3 and 3.4.
    """
    a = _activated(x, bias, relu)
    y, index = max_pool2d.reference(lrn.reference(a, response=response), window=window)
    return y, index


@primitive
def bias_relu_lrn_pool_grad(
    gy: Array,
    x: Array,
    bias: Array | None,
    index: Array,
    *,
    relu: bool,
    response: Response,
    window: Window,
) -> tuple[Array, Array | None]:
    """Gradients of bias_relu_lrn_pool by x and by bias -> gx (N,H,W,C), gbias (C,) or None.

    gy, index (N,P,Q,C), x (N,H,W,C), bias (C,) or None, all as in the forward pass, and the same
    settings. gx is 0 where ReLU gave 0; gbias is the sum of gx over all pixels.
    """
    a = _activated(x, bias, relu)
    g = max_pool2d_grad.reference(gy, index, input_shape=x.shape, window=window)
    gx = lrn_grad.reference(g, a, response=response)
    if relu:
        gx = np.where(a > 0, gx, np.zeros_like(gx))
    return gx, None if bias is None else long_sum(gx, (0, 1, 2))
