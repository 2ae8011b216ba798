"""Activation functions, any shape, with their gradients.

A gradient takes gy (the gradient by the output) and whichever of x or y gives it more cheaply.
All keep the dtype. None overflows: exp only ever sees arguments that are not positive.
"""

from __future__ import annotations

import numpy as np

from gpukit.dispatch.primitive import primitive
from gpukit.errors import SettingError
from gpukit.primitives.accumulate import Array, long_sum


def logistic(x: Array) -> Array:
    """1 / (1 + e^-x), written with e^-|x| so that neither side overflows."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, np.ones_like(small), small) / (1 + small)


def log_normalised(x: Array) -> Array:
    """x - log Σ exp x over the last axis, shifted by the maximum."""
    shifted = x - np.max(x, axis=-1, keepdims=True)
    return shifted - np.log(long_sum(np.exp(shifted), -1, keepdims=True))


def normalised_exp(x: Array) -> Array:
    """exp x / Σ exp x over the last axis, shifted by the maximum."""
    exponentials = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return exponentials / long_sum(exponentials, -1, keepdims=True)


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


@primitive
def relu(x: Array) -> Array:
    """max(x, 0) (Nair and Hinton, 2010); NaN stays NaN."""
    return np.maximum(x, 0)


@primitive
def relu_grad(gy: Array, y: Array) -> Array:
    """gy where y > 0, else 0 (so 0 at x = 0)."""
    return np.where(y > 0, gy, np.zeros_like(gy))


@primitive
def leaky_relu(x: Array, *, slope: float) -> Array:
    """x where x > 0, else slope·x (Maas et al., 2013)."""
    return np.where(x > 0, x, float(slope) * x)


@primitive
def leaky_relu_grad(gy: Array, x: Array, *, slope: float) -> Array:
    """gy where x > 0, else slope·gy."""
    return np.where(x > 0, gy, float(slope) * gy)


@primitive
def elu(x: Array, *, alpha: float) -> Array:
    """x where x > 0, else alpha·(e^x - 1) (Clevert et al., 2015)."""
    return np.where(x > 0, x, float(alpha) * np.expm1(np.minimum(x, 0)))


@primitive
def elu_grad(gy: Array, y: Array, *, alpha: float) -> Array:
    """gy where y > 0, else gy·(y + alpha), which is gy·alpha·e^x; alpha must not be negative."""
    return np.where(y > 0, gy, gy * (y + float(alpha)))


@primitive
def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x)."""
    return logistic(x)


@primitive
def sigmoid_grad(gy: Array, y: Array) -> Array:
    """gy·y·(1 - y)."""
    return gy * (y * (1 - y))


@primitive
def tanh(x: Array) -> Array:
    """(e^x - e^-x) / (e^x + e^-x)."""
    return np.tanh(x)


@primitive
def tanh_grad(gy: Array, y: Array) -> Array:
    """gy·(1 - y²), as (1 - y)·(1 + y), which keeps digits near ±1."""
    return gy * ((1 - y) * (1 + y))


@primitive
def softplus(x: Array) -> Array:
    """log(1 + e^x) = max(x, 0) + log(1 + e^-|x|) (Dugas et al., 2001)."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


@primitive
def softplus_grad(gy: Array, x: Array) -> Array:
    """gy·sigmoid(x)."""
    return gy * logistic(x)


@primitive
def softmax(x: Array) -> Array:
    """exp x / Σ exp x over the last axis: x (…,K) -> y (…,K), rows that sum to 1."""
    return normalised_exp(x)


@primitive
def softmax_grad(gy: Array, y: Array) -> Array:
    """y·(gy - Σ gy·y) over the last axis: gy, y (…,K) -> gx (…,K)."""
    return y * (gy - long_sum(gy * y, -1, keepdims=True))


@primitive
def log_softmax(x: Array) -> Array:
    """x - log Σ exp x over the last axis: x (…,K) -> y (…,K)."""
    return log_normalised(x)


@primitive
def log_softmax_grad(gy: Array, y: Array) -> Array:
    """gy - e^y·Σ gy over the last axis: gy, y (…,K) -> gx (…,K)."""
    return gy - np.exp(y) * long_sum(gy, -1, keepdims=True)
