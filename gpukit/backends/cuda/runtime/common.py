"""What launchers share: memory, grids, limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpukit.device import device_of
from gpukit.launch.kernel import Kernel
from gpukit.primitives.accumulate import Array

BLOCK = 256  # threads of a block where nothing speaks for another number
FLOATS = {np.dtype(np.float32), np.dtype(np.float64)}
MOST_INT = 2**31 - 1  # that an int holds
MARGIN = 1 << 16  # what a grid's last tile may count beyond an array's end


def empty_like(x: Any, shape: Sequence[int] | None = None, dtype: Any = None) -> Any:
    """Uninitialised memory on the device of `x`, of its shape and dtype unless others are given."""
    wanted = tuple(x.shape) if shape is None else tuple(shape)
    return device_of(x).empty(wanted, x.dtype if dtype is None else dtype)


def contiguous(x: Any) -> Any:
    """`x` itself if its elements lie one after another, else a copy that does."""
    return x if x is None or x.flags.c_contiguous else x.copy()


def is_float(*arrays: Any, **_: Any) -> bool:
    """Whether all are arrays of float32, or all of float64 (None counts for either)."""
    found = None
    for a in arrays:
        if a is None:
            continue
        if found is None:
            found = a.dtype
            if found not in FLOATS:
                return False
        elif a.dtype != found:
            return False
    return found is not None


def alike(*arrays: Any, **_: Any) -> bool:
    """Whether all are arrays of float32, or all of float64, of one shape."""
    return is_float(*arrays) and all(a.shape == arrays[0].shape for a in arrays)


def divide_up(a: int, b: int) -> int:
    """a / b rounded up."""
    return -(-a // b)


def address(array: Array) -> int:
    """Where the elements of an array of a card, or of the emulator, begin."""
    data = array.data
    return int(data.ptr if hasattr(data, "ptr") else data.__array_interface__["data"][0])


def pack_grid(x: Any) -> int:
    """Blocks for one thread a pack of 16 bytes (kernels/pack.cuh)."""
    return divide_up(x.size, BLOCK * (16 // x.dtype.itemsize))


def by_element(kernel: Kernel, function: str, *arrays: Any, numbers: Sequence[float] = ()) -> Any:
    """A new array of the functor `function` of each element of arrays that are alike."""
    arrays = tuple(contiguous(a) for a in arrays)
    x, y = arrays[0], empty_like(arrays[0])
    if x.size:
        kernel.launch(
            pack_grid(x), BLOCK, *arrays, y, x.size, *map(float, numbers), T=x.dtype, F=function
        )
    return y


def index_type(most: int) -> str:
    """C's type for indices up to `most` in a kernel whose last block may reach beyond it."""
    return "int" if most <= MOST_INT - MARGIN else "long long"
