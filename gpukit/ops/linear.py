"""Fully connected layers and matrix products."""

from __future__ import annotations

from typing import Any

from gpukit import primitives as p
from gpukit.autograd import differentiable
from gpukit.device import device_of
from gpukit.errors import ShapeError
from gpukit.ops.epilogue import Epilogue, check_epilogue
from gpukit.ops.passes import Algo, by_pass

__all__ = ["dense", "matmul"]

_PASSES = {"forward": p.dense, "input_grad": p.dense_input_grad, "weight_grad": p.dense_weight_grad}


@differentiable
def dense(
    x: Any, w: Any, b: Any = None, *, activation: str | None = None, algo: Algo = None
) -> Any:
    """φ(x @ w + b): x (N, in), w (in, out), b (out,) → (N, out).

    `activation` is None, "relu", "sigmoid" or "tanh". `algo` is as in `conv2d`. Raises ShapeError.
    """
    if x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[0]:
        raise ShapeError(
            f"dense: x {tuple(x.shape)} and w {tuple(w.shape)} do not go together; "
            "x is (N, in), w is (in, out)"
        )
    if b is not None and tuple(b.shape) != (w.shape[1],):
        raise ShapeError(
            f"dense: b {tuple(b.shape)} must be ({w.shape[1]},) for w {tuple(w.shape)}"
        )
    check_epilogue("dense", activation)
    chosen = by_pass("dense", _PASSES, algo, device_of(x))
    input_way, weight_way = chosen.get("input_grad"), chosen.get("weight_grad")
    y = p.dense(x, w, b, activation=activation, algo=chosen.get("forward"))
    before = Epilogue(y, activation)
    return y, (
        lambda gy: p.dense_input_grad(before(gy), w, algo=input_way),
        lambda gy: p.dense_weight_grad(x, before(gy), algo=weight_way),
        lambda gy: p.bias_grad(before(gy)),
    )


@differentiable
def matmul(a: Any, b: Any, *, algo: str | None = None) -> Any:
    """a @ b for matrices a (M, K), b (K, N) → (M, N)."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ShapeError(
            f"matmul: {tuple(a.shape)} @ {tuple(b.shape)} does not go together; use (M, K) @ (K, N)"
        )
    return p.matmul(a, b, algo=algo), (
        lambda gy: p.matmul(gy, p.transpose(b, axes=(1, 0)), algo=algo),
        lambda gy: p.matmul(p.transpose(a, axes=(1, 0)), gy, algo=algo),
    )
