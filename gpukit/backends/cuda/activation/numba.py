"""Launchers of kernels/activation.py: activations of each element."""

from __future__ import annotations

from typing import Any

from gpukit import primitives as p
from gpukit.backends.cuda.runtime.common import contiguous, divide_up, empty_like, is_float
from gpukit.dispatch.primitive import Primitive
from gpukit.launch.numba import MOST, NumbaKernel

Array = Any

BLOCK = 256


def _fits(x: Array) -> bool:
    return is_float(x) and x.size <= MOST


def _pair_fits(gy: Array, y: Array) -> bool:
    return is_float(gy, y) and gy.shape == y.shape and gy.size <= MOST


def _by_element(kernel: NumbaKernel, *inputs: Array) -> Array:
    inputs = tuple(contiguous(x) for x in inputs)
    result = empty_like(inputs[0])
    if result.size:
        flat = [a.reshape(-1) for a in (*inputs, result)]
        kernel.launch(divide_up(result.size, BLOCK), BLOCK, *flat)
    return result


def _register(name: str) -> None:
    """An activation and its gradient from y, whose kernels have the primitives' names."""
    kernel, gradient = (
        NumbaKernel("activation", name),
        NumbaKernel("activation", f"{name}_gradient"),
    )
    forward: Primitive = getattr(p, name)
    backward: Primitive = getattr(p, f"{name}_grad")

    @forward.on("cuda", name="numba", supports=_fits, emulated=False, kernels=(kernel,))
    def _(x: Array) -> Array:
        return _by_element(kernel, x)

    @backward.on("cuda", name="numba", supports=_pair_fits, emulated=False, kernels=(gradient,))
    def _(gy: Array, y: Array) -> Array:
        return _by_element(gradient, gy, y)


for _name in ("relu", "sigmoid", "tanh"):
    _register(_name)
