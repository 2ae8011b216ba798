"""Activations by element, with gradients from what the forward pass kept: twins of activation.cu.

One thread an element, neighbours side by side. Bytes are the floor: relu reads 4 and writes 4.
"""

import math

from numba import cuda

from gpukit.kernels.typed import Vector, inlined

NOTHING, RELU, SIGMOID, TANH = 0, 1, 2, 3  # what `activate` is told to do


@inlined
def positive(x, zero):
    """max(x, 0); NaN stays NaN, because no comparison with it is true."""
    return zero if x <= zero else x


@inlined
def logistic(x, zero, one):
    """1 / (1 + e^-x), by e^-|x|, which cannot overflow."""
    small = math.exp(-math.fabs(x))
    return (one if x >= zero else small) / (one + small)


@cuda.jit
def relu(x: Vector, y: Vector):
    """y = max(x, 0)."""
    i = cuda.grid(1)
    if i < x.shape[0]:
        y[i] = positive(x[i], x.dtype.type(0))


@cuda.jit
def relu_gradient(gy: Vector, y: Vector, gx: Vector):
    """gx = gy where y > 0, else 0."""
    i = cuda.grid(1)
    if i < gy.shape[0]:
        zero = gy.dtype.type(0)
        gx[i] = gy[i] if y[i] > zero else zero


@cuda.jit
def sigmoid(x: Vector, y: Vector):
    """y = 1 / (1 + e^-x)."""
    i = cuda.grid(1)
    if i < x.shape[0]:
        y[i] = logistic(x[i], x.dtype.type(0), x.dtype.type(1))


@cuda.jit
def sigmoid_gradient(gy: Vector, y: Vector, gx: Vector):
    """gx = gy·y·(1 - y)."""
    i = cuda.grid(1)
    if i < gy.shape[0]:
        gx[i] = gy[i] * (y[i] * (gy.dtype.type(1) - y[i]))


@cuda.jit
def tanh(x: Vector, y: Vector):
    """y = tanh x."""
    i = cuda.grid(1)
    if i < x.shape[0]:
        y[i] = math.tanh(x[i])


@cuda.jit
def tanh_gradient(gy: Vector, y: Vector, gx: Vector):
    """gx = gy·(1 - y)·(1 + y), which keeps digits near ±1."""
    i = cuda.grid(1)
    if i < gy.shape[0]:
        one = gy.dtype.type(1)
        gx[i] = gy[i] * ((one - y[i]) * (one + y[i]))


@inlined
def activate(x, zero, one, activation):
    """The activation that a convolution applies to a value on its way out."""
    y = x
    if activation == RELU:
        y = positive(x, zero)
    elif activation == SIGMOID:
        y = logistic(x, zero, one)
    elif activation == TANH:
        y = math.tanh(x)
    return y
