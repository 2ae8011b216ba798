"""Launchers of kernels/activation.cu: activations of each element."""

from __future__ import annotations

from typing import Any

from gpukit import primitives as p
from gpukit.backends.cuda.runtime.common import (
    BLOCK,
    contiguous,
    divide_up,
    empty_like,
    is_float,
)
from gpukit.dispatch.primitive import Primitive
from gpukit.launch.kernel import Kernel

Array = Any

_unary = Kernel("activation.cu", "unary")
_gradient = Kernel("activation.cu", "gradient")


def pack_grid(x: Array) -> int:
    """Blocks for one thread a pack of 16 bytes (kernels/pack.cuh)."""
    return divide_up(x.size, BLOCK * (16 // x.dtype.itemsize))


def _forward(x: Array, function: str, setting: float = 0.0) -> Array:
    x = contiguous(x)
    y = empty_like(x)
    if x.size:
        _unary.launch(pack_grid(x), BLOCK, x, y, x.size, float(setting), T=x.dtype, F=function)
    return y


def _backward(gy: Array, kept: Array, function: str, setting: float = 0.0) -> Array:
    gy, kept = contiguous(gy), contiguous(kept)
    gx = empty_like(gy)
    if gy.size:
        _gradient.launch(
            pack_grid(gy), BLOCK, gy, kept, gx, gy.size, float(setting), T=gy.dtype, F=function
        )
    return gx


def _takes(x: Array, **_: Any) -> bool:
    return is_float(x)


def _takes_pair(gy: Array, kept: Array) -> bool:
    return is_float(gy, kept) and gy.shape == kept.shape


def _register(name: str, function: str) -> None:
    """Activations without a setting, and their gradients from y."""
    forward: Primitive = getattr(p, name)
    backward: Primitive = getattr(p, f"{name}_grad")

    @forward.on("cuda", name="cuda", supports=_takes, kernels=(_unary,))
    def _(x: Array) -> Array:
        return _forward(x, function)

    @backward.on("cuda", name="cuda", supports=_takes_pair, kernels=(_gradient,))
    def _(gy: Array, y: Array) -> Array:
        return _backward(gy, y, f"{function}Grad")


for _name, _function in (("relu", "Relu"), ("sigmoid", "Sigmoid"), ("tanh", "Tanh")):
    _register(_name, _function)


@p.softplus.on("cuda", name="cuda", supports=_takes, kernels=(_unary,))
def _(x: Array) -> Array:
    return _forward(x, "Softplus")


@p.softplus_grad.on(
    "cuda", name="cuda", supports=lambda gy, x: _takes_pair(gy, x), kernels=(_gradient,)
)
def _(gy: Array, x: Array) -> Array:
    return _backward(gy, x, "SoftplusGrad")


@p.leaky_relu.on("cuda", name="cuda", supports=_takes, kernels=(_unary,))
def _(x: Array, *, slope: float) -> Array:
    return _forward(x, "LeakyRelu", slope)


@p.leaky_relu_grad.on(
    "cuda", name="cuda", supports=lambda gy, x, *, slope: _takes_pair(gy, x), kernels=(_gradient,)
)
def _(gy: Array, x: Array, *, slope: float) -> Array:
    return _backward(gy, x, "LeakyReluGrad", slope)


@p.elu.on("cuda", name="cuda", supports=_takes, kernels=(_unary,))
def _(x: Array, *, alpha: float) -> Array:
    return _forward(x, "Elu", alpha)


@p.elu_grad.on(
    "cuda", name="cuda", supports=lambda gy, y, *, alpha: _takes_pair(gy, y), kernels=(_gradient,)
)
def _(gy: Array, y: Array, *, alpha: float) -> Array:
    return _backward(gy, y, "EluGrad", alpha)
