"""Launchers of kernels/reduction.cu: a flag that stays on the device."""

from __future__ import annotations

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cuda.runtime.common import BLOCK, contiguous, divide_up, empty_like, is_float
from gpukit.launch.kernel import Kernel
from gpukit.primitives.accumulate import Array

PACKS = 4  # of 16 bytes that a thread looks at, before blocks go round again
MOST = 1024  # blocks

_parts = Kernel("reduction.cu", "finite_parts")
_all = Kernel("reduction.cu", "all_set")


@p.all_finite.on("cuda", name="cuda", supports=lambda x: is_float(x), kernels=(_parts, _all))
def _(x: Array) -> Array:
    x = contiguous(x)
    each = BLOCK * PACKS * (16 // x.dtype.itemsize)
    blocks = max(1, min(divide_up(x.size, each), MOST))
    flags = empty_like(x, (blocks,), np.bool_)
    flag = empty_like(x, (), np.bool_)
    _parts.launch(blocks, BLOCK, x, flags, x.size, T=x.dtype)
    _all.launch(1, BLOCK, flags, flag, blocks)
    return flag
