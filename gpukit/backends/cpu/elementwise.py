"""NumPy's own vector loops, in pieces that stay in cache, on all threads.

NumPy's exp, tanh and their like are vectorised better than what Numba makes of a libm call, and
need no compilation. Working through an array in pieces keeps temporaries out of memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cpu.activation.piecewise import pieces_of
from gpukit.backends.cpu.runtime.common import Array, is_float
from gpukit.backends.cpu.runtime.memory import empty
from gpukit.backends.cpu.runtime.threads import parallel_for

# Elements of one piece: a few of them fit in L2.
_PIECE = 16 << 10
# Transcendental functions take about 1 ns an element, arithmetic a tenth of it.
HEAVY, LIGHT = 50_000, 400_000


def in_pieces(function: Callable[..., Any], task_size: int, *inputs: Array) -> Array:
    """y by `function(y_piece, *input_pieces)` for each piece; all of one shape and dtype."""
    x = inputs[0]
    y = empty(x.shape, x.dtype)
    if x.size <= _PIECE:
        function(y, *inputs)
        return y
    out = y.reshape(-1)
    values = [np.ascontiguousarray(v).reshape(-1) for v in inputs]
    tasks = pieces_of(x.size, task_size)

    def task(i: int) -> None:
        first, last = tasks[i]
        for a in range(first, last, _PIECE):
            b = min(a + _PIECE, last)
            function(out[a:b], *[v[a:b] for v in values])

    parallel_for(len(tasks), task)
    return y


def same(x: Any, *others: Any, **_: Any) -> bool:
    """Whether all are float arrays of one dtype and shape."""
    return is_float(x) and all(o.dtype == x.dtype and o.shape == x.shape for o in others)


def _arrays(x: Any, y: Any) -> bool:
    if not (isinstance(x, np.ndarray) and isinstance(y, np.ndarray)):
        return False
    return same(x, y)


def _register_binary(primitive: Any, ufunc: np.ufunc, task_size: int) -> None:
    @primitive.on("cpu", name="pieces", supports=_arrays)
    def _(x: Array, y: Array) -> Array:
        return in_pieces(lambda out, a, b: ufunc(a, b, out=out), task_size, x, y)


def _register_unary(primitive: Any, ufunc: np.ufunc, task_size: int) -> None:
    @primitive.on("cpu", name="pieces", supports=is_float)
    def _(x: Array) -> Array:
        return in_pieces(lambda out, a: ufunc(a, out=out), task_size, x)


_BINARY: tuple[tuple[Any, np.ufunc, int], ...] = (
    (p.add, np.add, LIGHT),
    (p.subtract, np.subtract, LIGHT),
    (p.multiply, np.multiply, LIGHT),
    (p.divide, np.divide, LIGHT),
    (p.power, np.power, HEAVY),
    (p.maximum, np.maximum, LIGHT),
    (p.minimum, np.minimum, LIGHT),
)
_UNARY: tuple[tuple[Any, np.ufunc, int], ...] = (
    (p.negative, np.negative, LIGHT),
    (p.exp, np.exp, HEAVY),
    (p.log, np.log, HEAVY),
    (p.sqrt, np.sqrt, LIGHT),
    (p.square, np.square, LIGHT),
    (p.absolute, np.abs, LIGHT),
    (p.sign, np.sign, LIGHT),
    (p.tanh, np.tanh, HEAVY),
)

for _primitive, _ufunc, _size in _BINARY:
    _register_binary(_primitive, _ufunc, _size)
for _primitive, _ufunc, _size in _UNARY:
    _register_unary(_primitive, _ufunc, _size)
