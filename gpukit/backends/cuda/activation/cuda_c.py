"""Launchers of activations: kernels/activation.cu by element, kernels/loss.cu by row."""

from __future__ import annotations

import math
from typing import Any

from gpukit import primitives as p
from gpukit.backends.cuda.runtime.common import (
    BLOCK,
    MARGIN,
    MOST_INT,
    contiguous,
    divide_up,
    empty_like,
    is_float,
)
from gpukit.dispatch.primitive import Primitive
from gpukit.errors import ShapeError
from gpukit.launch.kernel import Kernel

Array = Any

WARP = 32
WARP_CLASSES = 1024  # rows up to this long are a warp's, longer ones a block's

_unary = Kernel("activation.cu", "unary")
_gradient = Kernel("activation.cu", "gradient")
_softmax = Kernel("loss.cu", "softmax")
_softmax_gradient = Kernel("loss.cu", "softmax_gradient")


def pack_grid(x: Array) -> int:
    """Blocks for one thread a pack of 16 bytes (kernels/pack.cuh)."""
    return divide_up(x.size, BLOCK * (16 // x.dtype.itemsize))


def teams(rows: int, classes: int) -> tuple[int, int]:
    """(blocks, threads of the team that has a row) for kernels/loss.cu."""
    most = MOST_INT - MARGIN
    if max(rows, classes) > most:
        raise ShapeError(
            f"softmax of {rows} rows of {classes} classes: kernels count either to {most}; cut the "
            f"batch into parts, or use algo='reference'"
        )
    team = WARP if classes <= WARP_CLASSES else BLOCK
    return divide_up(rows, BLOCK // team), team


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

    @forward.on("cuda", name="cuda", supports=_takes)
    def _(x: Array) -> Array:
        return _forward(x, function)

    @backward.on("cuda", name="cuda", supports=_takes_pair)
    def _(gy: Array, y: Array) -> Array:
        return _backward(gy, y, f"{function}Grad")


for _name, _function in (("relu", "Relu"), ("sigmoid", "Sigmoid"), ("tanh", "Tanh")):
    _register(_name, _function)


@p.softplus.on("cuda", name="cuda", supports=_takes)
def _(x: Array) -> Array:
    return _forward(x, "Softplus")


@p.softplus_grad.on("cuda", name="cuda", supports=lambda gy, x: _takes_pair(gy, x))
def _(gy: Array, x: Array) -> Array:
    return _backward(gy, x, "SoftplusGrad")


@p.leaky_relu.on("cuda", name="cuda", supports=_takes)
def _(x: Array, *, slope: float) -> Array:
    return _forward(x, "LeakyRelu", slope)


@p.leaky_relu_grad.on("cuda", name="cuda", supports=lambda gy, x, *, slope: _takes_pair(gy, x))
def _(gy: Array, x: Array, *, slope: float) -> Array:
    return _backward(gy, x, "LeakyReluGrad", slope)


@p.elu.on("cuda", name="cuda", supports=_takes)
def _(x: Array, *, alpha: float) -> Array:
    return _forward(x, "Elu", alpha)


@p.elu_grad.on("cuda", name="cuda", supports=lambda gy, y, *, alpha: _takes_pair(gy, y))
def _(gy: Array, y: Array, *, alpha: float) -> Array:
    return _backward(gy, y, "EluGrad", alpha)


def _has_rows(x: Array) -> bool:
    return is_float(x) and x.ndim > 0 and (x.size == 0 or x.size // x.shape[-1] < 2**31)


def _rows(x: Array) -> tuple[int, int]:
    return math.prod(x.shape[:-1]), x.shape[-1]


def _row_forward(x: Array, log: bool) -> Array:
    x = contiguous(x)
    y = empty_like(x)
    if x.size:
        rows, classes = _rows(x)
        grid, team = teams(rows, classes)
        _softmax.launch(grid, BLOCK, x, y, rows, classes, T=x.dtype, TEAM=team, LOG=log)
    return y


def _row_backward(gy: Array, y: Array, log: bool) -> Array:
    gy, y = contiguous(gy), contiguous(y)
    gx = empty_like(gy)
    if gy.size:
        rows, classes = _rows(gy)
        grid, team = teams(rows, classes)
        _softmax_gradient.launch(
            grid, BLOCK, gy, y, gx, rows, classes, T=gy.dtype, TEAM=team, LOG=log
        )
    return gx


def _has_row_pairs(gy: Array, y: Array) -> bool:
    return _takes_pair(gy, y) and _has_rows(gy)


@p.softmax.on("cuda", name="cuda", supports=_has_rows)
def _(x: Array) -> Array:
    return _row_forward(x, log=False)


@p.softmax_grad.on("cuda", name="cuda", supports=_has_row_pairs)
def _(gy: Array, y: Array) -> Array:
    return _row_backward(gy, y, log=False)


@p.log_softmax.on("cuda", name="cuda", supports=_has_rows)
def _(x: Array) -> Array:
    return _row_forward(x, log=True)


@p.log_softmax_grad.on("cuda", name="cuda", supports=_has_row_pairs)
def _(gy: Array, y: Array) -> Array:
    return _row_backward(gy, y, log=True)
