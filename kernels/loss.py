"""Softmax, its logarithm and the cross-entropy after it, over rows; with gradients.

Twins of loss.cu. A block has a row, its threads take every so-manieth class, and what they found
is put together in shared memory, half as many threads each round. `blockDim.x` is a power of two,
up to BLOCK. The maximum is subtracted first, so that no exponential overflows.
"""

import math

from numba import cuda

from gpukit.kernels.typed import Labels, Matrix, Vector, inlined

BLOCK = 256

# Device functions that use `cuda` stand in the file of their kernels: there alone Numba's simulator
# lends them its own.


@inlined
def block_max(value, like):
    """The largest `value` of the block's threads, for all of them; floats like those of `like`."""
    values, t = cuda.shared.array(BLOCK, like.dtype), cuda.threadIdx.x
    values[t] = value
    half = cuda.blockDim.x // 2
    while half > 0:
        cuda.syncthreads()
        if t < half:
            values[t] = max(values[t], values[t + half])
        half //= 2
    cuda.syncthreads()
    return values[0]


@inlined
def block_sum(value, like):
    """The sum of `value` over the block's threads, for all of them; floats like those of `like`."""
    values, t = cuda.shared.array(BLOCK, like.dtype), cuda.threadIdx.x
    cuda.syncthreads()  # the sum before this one has been read
    values[t] = value
    half = cuda.blockDim.x // 2
    while half > 0:
        cuda.syncthreads()
        if t < half:
            values[t] += values[t + half]
        half //= 2
    cuda.syncthreads()
    return values[0]


@inlined
def largest(x, row):
    """The maximum of a row, for all threads; what comparisons do with a NaN does not matter."""
    best = x.dtype.type(-math.inf)
    for c in range(cuda.threadIdx.x, x.shape[1], cuda.blockDim.x):
        best = max(best, x[row, c])
    return block_max(best, x)


@inlined
def sum_of_exponentials(x, row, shift):
    """Σ e^(x - shift) over a row, for all threads. A NaN in it makes the sum NaN."""
    total = x.dtype.type(0)
    for c in range(cuda.threadIdx.x, x.shape[1], cuda.blockDim.x):
        total += math.exp(x[row, c] - shift)
    return block_sum(total, x)


@cuda.jit
def softmax(x: Matrix, y: Matrix):
    """y = e^(x - max) / Σ e^(x - max) over rows."""
    row = cuda.blockIdx.x
    shift = largest(x, row)
    total = sum_of_exponentials(x, row, shift)
    for c in range(cuda.threadIdx.x, x.shape[1], cuda.blockDim.x):
        y[row, c] = math.exp(x[row, c] - shift) / total


@cuda.jit
def log_softmax(x: Matrix, y: Matrix):
    """y = x - max - log Σ e^(x - max) over rows."""
    row = cuda.blockIdx.x
    shift = largest(x, row)
    logarithm = math.log(sum_of_exponentials(x, row, shift))
    for c in range(cuda.threadIdx.x, x.shape[1], cuda.blockDim.x):
        y[row, c] = x[row, c] - shift - logarithm


@cuda.jit
def softmax_gradient(gy: Matrix, y: Matrix, gx: Matrix):
    """gx = y·(gy - Σ gy·y) over rows."""
    row = cuda.blockIdx.x
    total = gy.dtype.type(0)
    for c in range(cuda.threadIdx.x, gy.shape[1], cuda.blockDim.x):
        total += gy[row, c] * y[row, c]
    total = block_sum(total, gy)
    for c in range(cuda.threadIdx.x, gy.shape[1], cuda.blockDim.x):
        gx[row, c] = y[row, c] * (gy[row, c] - total)


@cuda.jit
def log_softmax_gradient(gy: Matrix, y: Matrix, gx: Matrix):
    """gx = gy - e^y·Σ gy over rows."""
    row = cuda.blockIdx.x
    total = gy.dtype.type(0)
    for c in range(cuda.threadIdx.x, gy.shape[1], cuda.blockDim.x):
        total += gy[row, c]
    total = block_sum(total, gy)
    for c in range(cuda.threadIdx.x, gy.shape[1], cuda.blockDim.x):
        gx[row, c] = gy[row, c] - math.exp(y[row, c]) * total


@cuda.jit
def cross_entropy_labels(x: Matrix, labels: Labels, loss: Vector, probabilities: Matrix):
    """loss = -log softmax(x)[label], and the softmax for the gradient."""
    row = cuda.blockIdx.x
    shift = largest(x, row)
    logarithm = math.log(sum_of_exponentials(x, row, shift))
    for c in range(cuda.threadIdx.x, x.shape[1], cuda.blockDim.x):
        log_probability = x[row, c] - shift - logarithm
        probabilities[row, c] = math.exp(log_probability)
        if c == labels[row]:
            loss[row] = -log_probability


@cuda.jit
def cross_entropy_targets(x: Matrix, targets: Matrix, loss: Vector, probabilities: Matrix):
    """loss = -Σ t·log softmax(x), and the softmax for the gradient."""
    row = cuda.blockIdx.x
    shift = largest(x, row)
    logarithm = math.log(sum_of_exponentials(x, row, shift))
    total = x.dtype.type(0)
    for c in range(cuda.threadIdx.x, x.shape[1], cuda.blockDim.x):
        log_probability = x[row, c] - shift - logarithm
        probabilities[row, c] = math.exp(log_probability)
        total += targets[row, c] * log_probability
    total = block_sum(total, x)
    if cuda.threadIdx.x == 0:
        loss[row] = -total


@cuda.jit
def cross_entropy_labels_gradient(gloss: Vector, probabilities: Matrix, labels: Labels, gx: Matrix):
    """gx = gloss·(p - 1 at the label)."""
    row = cuda.blockIdx.x
    for c in range(cuda.threadIdx.x, gx.shape[1], cuda.blockDim.x):
        target = gx.dtype.type(1 if c == labels[row] else 0)
        gx[row, c] = gloss[row] * (probabilities[row, c] - target)


@cuda.jit
def cross_entropy_targets_gradient(
    gloss: Vector, probabilities: Matrix, targets: Matrix, gx: Matrix
):
    """gx = gloss·(p·Σt - t)."""
    row = cuda.blockIdx.x
    total = gx.dtype.type(0)
    for c in range(cuda.threadIdx.x, gx.shape[1], cuda.blockDim.x):
        total += targets[row, c]
    total = block_sum(total, gx)
    for c in range(cuda.threadIdx.x, gx.shape[1], cuda.blockDim.x):
        gx[row, c] = gloss[row] * (probabilities[row, c] * total - targets[row, c])
