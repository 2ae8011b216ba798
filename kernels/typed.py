"""What the parameters of Numba kernels are: annotations that are read, by launchers and by checks.

    def relu(x: Vector, y: Vector): ...

A kernel is compiled for float32 and for float64 in the place of "T", and a launch must pass what
the annotations say. Arrays are C-contiguous.

Numbers inside kernels are typed, too. Python's 0.5 would be a float64 that drags a float32 kernel
along with it: `x.dtype.type(0.5)` is one of x's own. int32 and int64 mix without harm, but a 64-bit
division costs some hundred instructions: `split` divides in 32 bits.
"""

from typing import NamedTuple

import numpy as np
from numba import cuda


class Array(NamedTuple):
    """A parameter that is an array of `ndim` axes, of floats ("T") or of `integers`' types."""

    ndim: int
    integers: tuple[str, ...] = ()


Int = "int32"

Vector = Array(1)
Matrix = Array(2)  # (rows, columns)
Panel = Array(3)  # (G, pixels, R·S·C/G), see im2col.py
Images = Array(4)  # (N, H, W, C)
Weights = Array(4)  # (R, S, C/G, K)
Winners = Array(4, ("uint8", "uint16", "uint32"))  # (N, P, Q, C): a cell's number in its window
Labels = Array(1, ("uint8", "int32", "int64"))


# Numba compiles other device functions for the card at hand, and there need not be one.
inlined = cuda.jit(device=True, inline="always")


@inlined
def split(number, size):
    """(number // size, number % size) of numbers from 0 to 2³² - 1."""
    n, d = np.uint32(number), np.uint32(size)
    return np.int32(n // d), np.int32(n % d)


@inlined
def place(number, images):
    """(n, h, w, c) of element `number` of an array with these four axes."""
    rest, c = split(number, images.shape[3])
    rest, w = split(rest, images.shape[2])
    n, h = split(rest, images.shape[1])
    return n, h, w, c
