"""Activations: element by element."""

from __future__ import annotations

from typing import Any

from gpukit import primitives as p
from gpukit.autograd import differentiable
from gpukit.ops.passes import gradient_by

__all__ = ["elu", "leaky_relu", "relu", "sigmoid", "softplus", "softsign", "tanh"]


@differentiable
def relu(x: Any, *, algo: str | None = None) -> Any:
    """max(x, 0)."""
    y = p.relu(x, algo=algo)
    return y, (lambda gy: gradient_by(algo, p.relu_grad, gy, y),)


@differentiable
def leaky_relu(x: Any, *, slope: float = 0.01, algo: str | None = None) -> Any:
    """x where x > 0, else slope · x."""
    y = p.leaky_relu(x, slope=slope, algo=algo)
    return y, (lambda gy: gradient_by(algo, p.leaky_relu_grad, gy, x, slope=slope),)


@differentiable
def elu(x: Any, *, alpha: float = 1.0, algo: str | None = None) -> Any:
    """x where x > 0, else alpha · (exp(x) − 1)."""
    y = p.elu(x, alpha=alpha, algo=algo)
    return y, (lambda gy: gradient_by(algo, p.elu_grad, gy, y, alpha=alpha),)


@differentiable
def sigmoid(x: Any, *, algo: str | None = None) -> Any:
    """1 / (1 + exp(−x)), without overflow."""
    y = p.sigmoid(x, algo=algo)
    return y, (lambda gy: gradient_by(algo, p.sigmoid_grad, gy, y),)


@differentiable
def tanh(x: Any, *, algo: str | None = None) -> Any:
    """Hyperbolic tangent."""
    y = p.tanh(x, algo=algo)
    return y, (lambda gy: gradient_by(algo, p.tanh_grad, gy, y),)


@differentiable
def softplus(x: Any, *, algo: str | None = None) -> Any:
    """ln(1 + exp(x)), without overflow."""
    y = p.softplus(x, algo=algo)
    return y, (lambda gy: gradient_by(algo, p.softplus_grad, gy, x),)


@differentiable
def softsign(x: Any, *, algo: str | None = None) -> Any:
    """x / (1 + |x|)."""
    y = p.softsign(x, algo=algo)
    return y, (lambda gy: gradient_by(algo, p.softsign_grad, gy, x),)
