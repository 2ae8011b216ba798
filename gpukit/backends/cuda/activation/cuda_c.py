"""Launchers of kernels/activation.cu: activations of each element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpukit.backends.cuda.runtime.common import (
    BLOCK,
    contiguous,
    divide_up,
    empty_like,
    is_float,
)
from gpukit.dispatch.primitive import Primitive, registry, with_signature
from gpukit.launch.kernel import Kernel
from gpukit.primitives import activation

Array = Any

_unary = Kernel("activation.cu", "unary")
_gradient = Kernel("activation.cu", "gradient")


def pack_grid(x: Array) -> int:
    """Blocks for one thread a pack of 16 bytes (kernels/pack.cuh)."""
    return divide_up(x.size, BLOCK * (16 // x.dtype.itemsize))


def _forward(function: str, x: Array, setting: float = 0.0) -> Array:
    x = contiguous(x)
    y = empty_like(x)
    if x.size:
        _unary.launch(pack_grid(x), BLOCK, x, y, x.size, float(setting), T=x.dtype, F=function)
    return y


def _backward(function: str, gy: Array, kept: Array, setting: float = 0.0) -> Array:
    gy, kept = contiguous(gy), contiguous(kept)
    gx = empty_like(gy)
    if gy.size:
        _gradient.launch(
            pack_grid(gy), BLOCK, gy, kept, gx, gy.size, float(setting), T=gy.dtype, F=function
        )
    return gx


def _takes(x: Array, **_: Any) -> bool:
    return is_float(x)


def _takes_pair(gy: Array, kept: Array, **_: Any) -> bool:
    return is_float(gy, kept) and gy.shape == kept.shape


def _register(primitive: Primitive) -> None:
    """The kernel's function is the primitive's name in camel case; it has one setting at most."""
    function = primitive.name.title().replace("_", "")
    gradient = primitive.name.endswith("_grad")
    launch: Callable[..., Array] = _backward if gradient else _forward
    supports, kernel = (_takes_pair, _gradient) if gradient else (_takes, _unary)

    def run(*arrays: Array, **settings: Any) -> Array:
        return launch(function, *arrays, *settings.values())

    run = with_signature(primitive, run)
    primitive.on("cuda", name="cuda", supports=supports, kernels=(kernel,))(run)


for _primitive in registry.values():
    if _primitive.__module__ == activation.__name__:
        _register(_primitive)
