"""NumPy's own vector loops, in pieces that stay in cache, on all threads.

NumPy's exp, tanh and their like are vectorised better than what Numba makes of a libm call, and
need no compilation. Working through an array in pieces keeps temporaries out of memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cpu.runtime.common import Array, same_floats
from gpukit.backends.cpu.runtime.memory import empty
from gpukit.backends.cpu.runtime.threads import LIGHT, for_ranges, tasks_of
from gpukit.dispatch.primitive import Primitive, with_signature

Function = Callable[..., Any]

# Elements of one piece: a few of them fit in L2.
_PIECE = 16 << 10
# Elements worth a task: transcendental functions take about 1 ns each, arithmetic a tenth of it.
HEAVY = 50_000


def pieces(primitive: Primitive, task_size: int) -> Callable[[Function], Function]:
    """Register `function(out, *inputs, **settings)`, called for each piece, as an implementation.

    Inputs and result are of one shape and dtype.
    """

    def register(function: Function) -> Function:
        def run(*inputs: Array, **settings: Any) -> Array:
            x = inputs[0]
            y = empty(x.shape, x.dtype)
            if x.size <= _PIECE:
                function(y, *inputs, **settings)
                return y
            out = y.reshape(-1)
            values = [np.ascontiguousarray(v).reshape(-1) for v in inputs]

            def task(first: int, last: int) -> None:
                for a in range(first, last, _PIECE):
                    b = min(a + _PIECE, last)
                    function(out[a:b], *[v[a:b] for v in values], **settings)

            for_ranges(tasks_of(x.size, x.size, task_size), task)
            return y

        primitive.on("cpu", name="pieces", supports=same)(with_signature(primitive, run))
        return function

    return register


def same(*arrays: Any, **_: Any) -> bool:
    """Whether all are float arrays of one dtype and shape."""
    for a in arrays:
        if not isinstance(a, np.ndarray) or a.shape != arrays[0].shape:
            return False
    return same_floats(*arrays)


def _into(ufunc: np.ufunc) -> Function:
    return lambda out, *inputs: ufunc(*inputs, out=out)


_UFUNCS: tuple[tuple[Primitive, np.ufunc, int], ...] = (
    (p.add, np.add, LIGHT),
    (p.subtract, np.subtract, LIGHT),
    (p.multiply, np.multiply, LIGHT),
    (p.divide, np.divide, LIGHT),
    (p.power, np.power, HEAVY),
    (p.maximum, np.maximum, LIGHT),
    (p.minimum, np.minimum, LIGHT),
    (p.negative, np.negative, LIGHT),
    (p.exp, np.exp, HEAVY),
    (p.log, np.log, HEAVY),
    (p.sqrt, np.sqrt, LIGHT),
    (p.square, np.square, LIGHT),
    (p.absolute, np.abs, LIGHT),
    (p.sign, np.sign, LIGHT),
    (p.tanh, np.tanh, HEAVY),
)
for _primitive, _ufunc, _size in _UFUNCS:
    pieces(_primitive, _size)(_into(_ufunc))
