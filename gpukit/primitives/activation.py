"""Activation functions, any shape, with their gradients.

A gradient takes gy (the gradient by the output) and whichever of x or y gives it more cheaply.
All keep the dtype. None overflows: exp only ever sees arguments that are not positive.
"""

from __future__ import annotations

import numpy as np

from gpukit.dispatch.primitive import primitive
from gpukit.errors import SettingError
from gpukit.primitives.accumulate import Array
from gpukit.primitives.calls import between, gradient, unary


def logistic(x: Array) -> Array:
    """1 / (1 + e^-x), written with e^-|x| so that neither side overflows."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, np.ones_like(small), small) / (1 + small)


def activate(x: Array, activation: str | None) -> Array:
    """The activation that conv2d and dense apply in passing: None, "relu", "sigmoid" or "tanh"."""
    match activation:
        case None:
            return x
        case "relu":
            return np.maximum(x, 0)
        case "sigmoid":
            return logistic(x)
        case "tanh":
            return np.tanh(x)
    raise SettingError(f"no fused activation {activation!r}; use relu, sigmoid, tanh or None")


@primitive(unary("v > T(0) || v != v ? v : T(0)", holes=True, exact="always"))
def relu(x: Array) -> Array:
    """max(x, 0) (Nair and Hinton, 2010); NaN stays NaN."""
    return np.maximum(x, 0)


@primitive(
    gradient(
        "v > T(0) ? g : T(0)",
        exact="always",
        torch=lambda torch: lambda gy, y: torch.ops.aten.threshold_backward(gy, y, 0),
    )
)
def relu_grad(gy: Array, y: Array) -> Array:
    """gy where y > 0, else 0 (so 0 at x = 0)."""
    return np.where(y > 0, gy, np.zeros_like(gy))


@primitive(
    unary(
        holes=True,
        torch=lambda torch, slope: lambda x: torch.nn.functional.leaky_relu(x, slope),
        slope=(0.01, 0.3),
    )
)
def leaky_relu(x: Array, *, slope: float) -> Array:
    """x where x > 0, else slope·x (Maas et al., 2013)."""
    return np.where(x > 0, x, float(slope) * x)


@primitive(
    gradient(
        torch=lambda torch, slope: (
            lambda gy, x: torch.ops.aten.leaky_relu_backward(gy, x, slope, False)
        ),
        slope=(0.01, 0.3),
    )
)
def leaky_relu_grad(gy: Array, x: Array, *, slope: float) -> Array:
    """gy where x > 0, else slope·gy."""
    return np.where(x > 0, gy, float(slope) * gy)


@primitive(
    unary(
        holes=True,
        torch=lambda torch, alpha: lambda x: torch.nn.functional.elu(x, alpha),
        alpha=(1.0, 0.5),
    )
)
def elu(x: Array, *, alpha: float) -> Array:
    """x where x > 0, else alpha·(e^x - 1) (Clevert et al., 2015)."""
    return np.where(x > 0, x, float(alpha) * np.expm1(np.minimum(x, 0)))


@primitive(
    gradient(
        kept=between(-1, 1),
        torch=lambda torch, alpha: (
            lambda gy, y: torch.ops.aten.elu_backward(gy, alpha, 1, 1, True, y)
        ),
        alpha=(1.0, 0.5),
    )
)
def elu_grad(gy: Array, y: Array, *, alpha: float) -> Array:
    """gy where y > 0, else gy·(y + alpha), which is gy·alpha·e^x; alpha must not be negative."""
    return np.where(y > 0, gy, gy * (y + float(alpha)))


@primitive(unary("T(1) / (T(1) + exp(-v))", holes=True))
def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x)."""
    return logistic(x)


@primitive(gradient("g * v * (T(1) - v)", kept=between(0, 1)))
def sigmoid_grad(gy: Array, y: Array) -> Array:
    """gy·y·(1 - y)."""
    return gy * (y * (1 - y))


@primitive(unary("tanh(v)", holes=True))
def tanh(x: Array) -> Array:
    """(e^x - e^-x) / (e^x + e^-x)."""
    return np.tanh(x)


@primitive(gradient("g * (T(1) - v * v)", kept=between(-1, 1)))
def tanh_grad(gy: Array, y: Array) -> Array:
    """gy·(1 - y²), as (1 - y)·(1 + y), which keeps digits near ±1."""
    return gy * ((1 - y) * (1 + y))


@primitive(unary("gpukit::maximum(v, T(0)) + log1p(exp(v < T(0) ? v : -v))", holes=True))
def softplus(x: Array) -> Array:
    """log(1 + e^x) = max(x, 0) + log(1 + e^-|x|) (Dugas et al., 2001)."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


@primitive(
    gradient(torch=lambda torch: lambda gy, x: torch.ops.aten.softplus_backward(gy, x, 1, 20))
)
def softplus_grad(gy: Array, x: Array) -> Array:
    """gy·sigmoid(x)."""
    return gy * logistic(x)


@primitive(unary("v / (T(1) + (v < T(0) ? -v : v))", holes=True))
def softsign(x: Array) -> Array:
    """x / (1 + |x|) (Turian et al., 2009)."""
    return x / (1 + np.abs(x))


@primitive(gradient(torch=lambda torch: lambda gy, x: gy / (1 + x.abs()).square()))
def softsign_grad(gy: Array, x: Array) -> Array:
    """gy / (1 + |x|)²."""
    below = 1 + np.abs(x)
    return gy / below / below
