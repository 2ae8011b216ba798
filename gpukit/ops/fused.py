"""Chains of operations computed as one, so that the values between never reach memory."""

from __future__ import annotations

from typing import Any

from gpukit import primitives as p
from gpukit.autograd import differentiable
from gpukit.errors import ShapeError
from gpukit.ops.normalisation import checked_response
from gpukit.ops.passes import gradient_by
from gpukit.ops.pool import pool_window

__all__ = ["bias_relu_lrn_pool"]


@differentiable
def bias_relu_lrn_pool(
    x: Any,
    b: Any = None,
    *,
    relu: bool = True,
    size: int = 5,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
    groups: int = 1,
    window: Any = 2,
    stride: Any = None,
    padding: Any = 0,
    algo: str | None = None,
) -> Any:
    """max_pool2d(lrn(relu(x + b))): x (N, H, W, C), b (C,) or None → (N, H', W', C).

    Settings are those of `lrn` and `max_pool2d`; without `relu` it is left out. The tape keeps x
    alone; backward works the values between out again. Raises ShapeError and SettingError.
    """
    settings = {
        "relu": relu,
        "window": pool_window("bias_relu_lrn_pool", x, window, stride, padding),
        "response": checked_response("bias_relu_lrn_pool", x, size, alpha, beta, k, groups),
    }
    if b is not None and tuple(b.shape) != (x.shape[3],):
        raise ShapeError(
            f"bias_relu_lrn_pool: b {tuple(b.shape)} must be ({x.shape[3]},), one for each channel"
        )
    y, index = p.bias_relu_lrn_pool(x, b, **settings, algo=algo)

    def gradients(gy: Any) -> Any:
        return gradient_by(algo, p.bias_relu_lrn_pool_grad, gy, x, b, index, **settings)

    return y, gradients
