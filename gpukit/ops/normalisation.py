"""Batch normalisation and local response normalisation, over the last axis (channels)."""

from __future__ import annotations

from typing import Any

from gpukit import primitives as p
from gpukit.autograd import differentiable
from gpukit.core.config import show
from gpukit.errors import SettingError, ShapeError
from gpukit.ops.passes import gradient_by
from gpukit.primitives.normalisation import Response

__all__ = ["batch_norm", "batch_norm_inference", "lrn"]


@differentiable
def batch_norm(
    x: Any, gamma: Any, beta: Any, *, epsilon: float = 1e-3, algo: str | None = None
) -> Any:
    """γ (x − mean) / √(variance + ε) + β with the statistics of the batch.

    x (N, …, C), gamma and beta (C,). Returns (y, mean, variance): the biased statistics over all
    axes but the last, which have no gradient. Ioffe and Szegedy, 2015.
    """
    _check(x, gamma, beta)
    y, mean, variance = p.batch_norm(x, gamma, beta, epsilon=epsilon, algo=algo)

    def gradients(gy: Any) -> Any:
        saved = (x, gamma, mean, variance)
        return gradient_by(algo, p.batch_norm_grad, gy, *saved, epsilon=epsilon)

    return y, gradients, (mean, variance)


@differentiable
def batch_norm_inference(
    x: Any,
    gamma: Any,
    beta: Any,
    mean: Any,
    variance: Any,
    *,
    epsilon: float = 1e-3,
    algo: str | None = None,
) -> Any:
    """γ (x − mean) / √(variance + ε) + β with fixed statistics (C,)."""
    _check(x, gamma, beta, mean, variance)
    y = p.batch_norm_inference(x, gamma, beta, mean, variance, epsilon=epsilon, algo=algo)

    def slope() -> Any:
        return p.power(p.add(variance, epsilon), -0.5)

    def gamma_gradient(gy: Any) -> Any:
        return p.bias_grad(p.multiply(gy, p.multiply(p.subtract(x, mean), slope())))

    return y, (
        lambda gy: p.multiply(gy, p.multiply(gamma, slope())),
        gamma_gradient,
        p.bias_grad,
        None,
        None,
    )


@differentiable
def lrn(
    x: Any,
    *,
    size: int = 5,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
    groups: int = 1,
    algo: str | None = None,
) -> Any:
    """x / (k + (α/size) Σ x²)^β over `size` neighbouring channels inside each of `groups`.

    x (N, H, W, C). The formula of Krizhevsky et al., 2012 has no division by size: their α = 1e-4
    is 5e-4 here.
    """
    response = checked_response("lrn", x, size, alpha, beta, k, groups)
    y = p.lrn(x, response=response, algo=algo)
    return y, (lambda gy: gradient_by(algo, p.lrn_grad, gy, x, response=response),)


def checked_response(
    name: str, x: Any, size: int, alpha: float, beta: float, k: float, groups: int
) -> Response:
    """The settings of lrn; refuses neighbourhoods and groups that the channels of x do not have."""
    channels = x.shape[-1]
    if not 1 <= size < 1 << 31 or groups < 1 or channels % groups:
        raise SettingError(
            f"{name}: size={show(size)}, groups={show(groups)} with {channels} channels; size "
            "must be 1 or more and groups divide the channels"
        )
    return Response(size, alpha, beta, k, groups)


def _check(x: Any, *vectors: Any) -> None:
    for vector in vectors:
        if tuple(vector.shape) != (x.shape[-1],):
            raise ShapeError(
                f"batch_norm: a parameter of shape {tuple(vector.shape)} does not fit x "
                f"{tuple(x.shape)}; use ({x.shape[-1]},)"
            )
