"""Launchers of kernels/activation.py: activations of each element."""

from __future__ import annotations

from gpukit import primitives as p
from gpukit.backends.cuda.runtime.common import alike, contiguous, divide_up, empty_like
from gpukit.dispatch.primitive import Primitive, with_signature
from gpukit.launch.numba import MOST, NumbaKernel
from gpukit.primitives.accumulate import Array

BLOCK = 256


def _fits(*arrays: Array) -> bool:
    return alike(*arrays) and arrays[0].size <= MOST


def _register(primitive: Primitive, kernel: NumbaKernel) -> None:
    def run(*inputs: Array) -> Array:
        inputs = tuple(contiguous(x) for x in inputs)
        result = empty_like(inputs[0])
        if result.size:
            flat = [a.reshape(-1) for a in (*inputs, result)]
            kernel.launch(divide_up(result.size, BLOCK), BLOCK, *flat)
        return result

    run = with_signature(primitive, run)
    primitive.on("cuda", name="numba", supports=_fits, emulated=False, kernels=(kernel,))(run)


for _name in ("relu", "sigmoid", "tanh"):
    _register(getattr(p, _name), NumbaKernel("activation", _name))
    _register(getattr(p, f"{_name}_grad"), NumbaKernel("activation", f"{_name}_gradient"))
