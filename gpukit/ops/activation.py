"""Activations: element by element, and softmax over the last axis."""

from __future__ import annotations

from typing import Any

from gpukit.autograd import differentiable
from gpukit.backends import reference as p


@differentiable
def relu(x: Any) -> Any:
    """max(x, 0)."""
    y = p.relu(x)
    return y, (lambda gy: p.relu_grad(gy, y),)


@differentiable
def leaky_relu(x: Any, *, slope: float = 0.01) -> Any:
    """x where x > 0, else slope · x."""
    return p.leaky_relu(x, slope=slope), (lambda gy: p.leaky_relu_grad(gy, x, slope=slope),)


@differentiable
def elu(x: Any, *, alpha: float = 1.0) -> Any:
    """x where x > 0, else alpha · (exp(x) − 1)."""
    y = p.elu(x, alpha=alpha)
    return y, (lambda gy: p.elu_grad(gy, y, alpha=alpha),)


@differentiable
def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(−x)), without overflow."""
    y = p.sigmoid(x)
    return y, (lambda gy: p.sigmoid_grad(gy, y),)


@differentiable
def tanh(x: Any) -> Any:
    """Hyperbolic tangent."""
    y = p.tanh(x)
    return y, (lambda gy: p.tanh_grad(gy, y),)


@differentiable
def softplus(x: Any) -> Any:
    """ln(1 + exp(x)), without overflow."""
    return p.softplus(x), (lambda gy: p.softplus_grad(gy, x),)


@differentiable
def softmax(x: Any) -> Any:
    """exp(x) / Σ exp(x) over the last axis, without overflow."""
    y = p.softmax(x)
    return y, (lambda gy: p.softmax_grad(gy, y),)


@differentiable
def log_softmax(x: Any) -> Any:
    """x − ln Σ exp(x) over the last axis, without overflow."""
    y = p.log_softmax(x)
    return y, (lambda gy: p.log_softmax_grad(gy, y),)
