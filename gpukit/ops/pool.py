"""Pooling over windows of an image, each channel by itself."""

from __future__ import annotations

from typing import Any

from gpukit import primitives as p
from gpukit.autograd import differentiable
from gpukit.errors import ShapeError
from gpukit.ops.passes import gradient_by
from gpukit.ops.windows import checked_window
from gpukit.primitives.windows import Window

__all__ = ["avg_pool2d", "global_avg_pool2d", "max_pool2d"]


@differentiable
def max_pool2d(
    x: Any, *, window: Any = 2, stride: Any = None, padding: Any = 0, algo: str | None = None
) -> Any:
    """The largest value of each window: x (N, H, W, C) → (N, H', W', C).

    `window` and `stride` (default: the window) are an integer or a pair; padding never wins. At a
    tie the first cell in row-major order gets the gradient. Raises ShapeError and SettingError.
    """
    window = pool_window("max_pool2d", x, window, stride, padding)
    x_shape = tuple(x.shape)
    y, index = p.max_pool2d(x, window=window, algo=algo)

    def gradient(gy: Any) -> Any:
        return gradient_by(algo, p.max_pool2d_grad, gy, index, input_shape=x_shape, window=window)

    return y, (gradient,)


@differentiable
def avg_pool2d(
    x: Any, *, window: Any = 2, stride: Any = None, padding: Any = 0, algo: str | None = None
) -> Any:
    """The mean of each window, padding not counted: x (N, H, W, C) → (N, H', W', C)."""
    window = pool_window("avg_pool2d", x, window, stride, padding)
    x_shape = tuple(x.shape)

    def gradient(gy: Any) -> Any:
        return gradient_by(algo, p.avg_pool2d_grad, gy, input_shape=x_shape, window=window)

    return p.avg_pool2d(x, window=window, algo=algo), (gradient,)


@differentiable
def global_avg_pool2d(x: Any, *, algo: str | None = None) -> Any:
    """The mean over height and width: x (N, H, W, C) → (N, C)."""
    _check("global_avg_pool2d", x)
    x_shape = tuple(x.shape)

    def gradient(gy: Any) -> Any:
        return gradient_by(algo, p.global_avg_pool2d_grad, gy, input_shape=x_shape)

    return p.global_avg_pool2d(x, algo=algo), (gradient,)


def _check(name: str, x: Any) -> None:
    if x.ndim != 4:
        raise ShapeError(f"{name}: x {tuple(x.shape)} must be (N, H, W, C)")


def pool_window(name: str, x: Any, window: Any, stride: Any, padding: Any) -> Window:
    """The window as primitives take it, checked for the images x."""
    _check(name, x)
    return checked_window(tuple(x.shape[1:3]), window, stride, padding)
