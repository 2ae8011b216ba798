"""Launchers of kernels/elementwise.cu: same shapes, one number, and broadcasting by strides."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpukit.backends.cuda.runtime.common import (
    BLOCK,
    by_element,
    contiguous,
    divide_up,
    empty_like,
    index_type,
    is_float,
    pack_grid,
)
from gpukit.backends.cuda.runtime.strides import COPY_KERNELS, Axis, merged, packed
from gpukit.dispatch.primitive import Primitive, registry
from gpukit.launch.kernel import Kernel
from gpukit.primitives import elementwise
from gpukit.primitives.accumulate import Array

AXES = 4  # that the strided kernel takes, after merging

_unary = Kernel("elementwise.cu", "unary")
_binary = Kernel("elementwise.cu", "binary")
_scalar = Kernel("elementwise.cu", "scalar")
_strided = Kernel("elementwise.cu", "strided")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.generic))


def _fits(x: Any, y: Any) -> bool:
    if _is_number(x) or _is_number(y):
        array = y if _is_number(x) else x
        return not _is_number(array) and is_float(array)
    return is_float(x, y)


def _launch_scalar(function: str, x: Array, number: Any, first: bool) -> Array:
    x = contiguous(x)
    z = empty_like(x)
    if x.size:
        _scalar.launch(
            pack_grid(x), BLOCK, x, float(number), z, x.size, T=x.dtype, F=function, FIRST=first
        )
    return z


def _launch_binary(function: str, x: Array, y: Array) -> Array:
    x, y = contiguous(x), contiguous(y)
    if x.shape == y.shape:
        return by_element(_binary, function, x, y)
    z = empty_like(x, np.broadcast_shapes(x.shape, y.shape))
    if not z.size:
        return z
    views = [np.broadcast_to(a, z.shape) for a in (x, y)]
    axes = merged(*views)
    if len(axes) > AXES:
        return by_element(_binary, function, *map(packed, views))
    whole = [Axis(1, 0, 0)] * (AXES - len(axes)) + axes
    index = "unsigned" if index_type(z.size) == "int" else "unsigned long long"
    _strided.launch(
        divide_up(z.size, BLOCK), BLOCK, x, y, z, z.size,
        *(a.size for a in whole[1:]), *(a.x for a in whole), *(a.y for a in whole),
        T=z.dtype, F=function, I=index,
    )  # fmt: skip
    return z


def _register(primitive: Primitive) -> None:
    """The kernel's function is the primitive's name, with a capital."""
    function = primitive.name.capitalize()

    def run(x: Any, y: Any) -> Array:
        if _is_number(x):
            return _launch_scalar(function, y, x, first=True)
        if _is_number(y):
            return _launch_scalar(function, x, y, first=False)
        return _launch_binary(function, x, y)

    if len(primitive.signature.parameters) == 1:
        primitive.on("cuda", name="cuda", supports=is_float, kernels=(_unary,))(
            lambda x: by_element(_unary, function, x)
        )
    else:
        kernels = (_binary, _scalar, _strided, *COPY_KERNELS)
        primitive.on("cuda", name="cuda", supports=_fits, kernels=kernels)(run)


for _primitive in registry.values():
    if _primitive.__module__ == elementwise.__name__:
        _register(_primitive)
