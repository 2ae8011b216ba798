"""Two-dimensional convolution (cross-correlation, as in every CNN framework)."""

from __future__ import annotations

from typing import Any

from gpukit import primitives as p
from gpukit.autograd import differentiable
from gpukit.device import device_of
from gpukit.errors import ShapeError
from gpukit.ops.epilogue import Epilogue, check_epilogue
from gpukit.ops.passes import Algo, by_pass
from gpukit.ops.windows import checked_conv

__all__ = ["conv2d"]

_PASSES = {
    "forward": p.conv2d,
    "input_grad": p.conv2d_input_grad,
    "weight_grad": p.conv2d_weight_grad,
}


@differentiable
def conv2d(
    x: Any,
    w: Any,
    b: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    activation: str | None = None,
    algo: Algo = None,
) -> Any:
    """φ(x ⋆ w + b): x (N, H, W, C), w (R, S, C/groups, K), b (K,) → (N, H', W', K).

    `stride` and `dilation` are an integer or a pair; `padding` is an integer, "same", "valid" or
    ((top, bottom), (left, right)). H' = ⌊(H + top + bottom − dilation·(R − 1) − 1)/stride⌋ + 1.
    `activation` is None, "relu", "sigmoid" or "tanh". `algo` names an implementation for all three
    passes, or gives a name for each of "forward", "input_grad" and "weight_grad"; a gradient that
    has no implementation of forward's name takes its default. Raises ShapeError, SettingError.
    """
    _check(x, w, b)
    x_shape, w_shape = tuple(x.shape), tuple(w.shape)
    conv = checked_conv(x_shape[1:], w_shape, stride, padding, dilation, groups)
    if w_shape[2] * conv.groups != x_shape[3]:
        raise ShapeError(
            f"conv2d: w {w_shape} with groups={groups} takes {w_shape[2] * conv.groups} input "
            f"channels, x {x_shape} has {x_shape[3]}; w is (R, S, C/groups, K)"
        )
    check_epilogue("conv2d", activation)
    chosen = by_pass("conv2d", _PASSES, algo, device_of(x))
    y = p.conv2d(x, w, b, conv=conv, activation=activation, algo=chosen.get("forward"))
    before = Epilogue(y, activation)

    def input_gradient(gy: Any) -> Any:
        one = chosen.get("input_grad")
        return p.conv2d_input_grad(before(gy), w, input_shape=x_shape, conv=conv, algo=one)

    def weight_gradient(gy: Any) -> Any:
        one = chosen.get("weight_grad")
        return p.conv2d_weight_grad(x, before(gy), kernel_shape=w_shape, conv=conv, algo=one)

    return y, (input_gradient, weight_gradient, lambda gy: p.bias_grad(before(gy)))


def _check(x: Any, w: Any, b: Any) -> None:
    if x.ndim != 4:
        raise ShapeError(f"conv2d: x {tuple(x.shape)} must be (N, H, W, C)")
    if w.ndim != 4 or 0 in w.shape:
        raise ShapeError(f"conv2d: w {tuple(w.shape)} must be (R, S, C/groups, K), none of them 0")
    if b is not None and tuple(b.shape) != (w.shape[3],):
        raise ShapeError(f"conv2d: b {tuple(b.shape)} must be ({w.shape[3]},), one for each filter")
