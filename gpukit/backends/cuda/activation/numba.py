"""Launchers of kernels/activation.py by element, and of kernels/loss.py by row."""

from __future__ import annotations

import math
from typing import Any

from gpukit import primitives as p
from gpukit.backends.cuda.runtime.common import contiguous, divide_up, empty_like, is_float
from gpukit.dispatch.primitive import Primitive
from gpukit.launch.numba import MOST, NumbaKernel, team

Array = Any

BLOCK = 256
ROW_BLOCK = 256  # threads of a block that has a row, at most


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


def _by_row(kernel: NumbaKernel, *inputs: Array) -> Array:
    inputs = tuple(contiguous(x) for x in inputs)
    result = empty_like(inputs[0])
    if result.size:
        rows, classes = math.prod(result.shape[:-1]), result.shape[-1]
        matrices = [a.reshape(rows, classes) for a in (*inputs, result)]
        kernel.launch(rows, team(classes, ROW_BLOCK), *matrices)
    return result


def _has_rows(x: Array) -> bool:
    return _fits(x) and x.ndim > 0


def _has_row_pairs(gy: Array, y: Array) -> bool:
    return _pair_fits(gy, y) and gy.ndim > 0


def _register(name: str, by_row: bool) -> None:
    """An activation and its gradient from y, whose kernels have the primitives' names."""
    file = "loss" if by_row else "activation"
    kernel, gradient = NumbaKernel(file, name), NumbaKernel(file, f"{name}_gradient")
    run = _by_row if by_row else _by_element
    takes, takes_pair = (_has_rows, _has_row_pairs) if by_row else (_fits, _pair_fits)
    forward: Primitive = getattr(p, name)
    backward: Primitive = getattr(p, f"{name}_grad")

    @forward.on("cuda", name="numba", supports=takes, emulated=False)
    def _(x: Array) -> Array:
        return run(kernel, x)

    @backward.on("cuda", name="numba", supports=takes_pair, emulated=False)
    def _(gy: Array, y: Array) -> Array:
        return run(gradient, gy, y)


for _name in ("relu", "sigmoid", "tanh"):
    _register(_name, by_row=False)
for _name in ("softmax", "log_softmax"):
    _register(_name, by_row=True)
