"""Convolution as it is defined, y[n,p,q,k] = φ(b[k] + Σ x[n,h,w,c]·w[r,s,c,k]), with its gradients.

    h = p·stride_h + r·dilation_h - top        row of cell r of window p; columns likewise

Letters: N images, H W rows and columns, C channels, K filters, R S window, P Q output, G groups.
Filters k of a group see the C/G channels of that group. Twins of conv/direct.cu without its tiles:
every product reads x and w through the caches, so the rate is theirs; im2col.py reads less.
"""

from numba import cuda

from gpukit.kernels.activation import activate
from gpukit.kernels.typed import Images, Int, Vector, Weights, inlined, place, split

BLOCK = 128  # threads of weight_gradient, at most


@cuda.jit
def conv2d(
    x: Images, w: Weights, bias: Vector, y: Images, has_bias: Int, activation: Int,
    stride_h: Int, stride_w: Int, top: Int, left: Int, dilation_h: Int, dilation_w: Int,
    groups: Int,
):  # fmt: skip
    """One thread a value of y; neighbours have neighbouring filters, and read the same pixel."""
    i = cuda.grid(1)
    if i >= y.size:
        return
    n, p, q, k = place(i, y)
    filters, _ = split(y.shape[3], groups)
    group, _ = split(k, filters)
    first = group * w.shape[2]
    total = x.dtype.type(0)
    for r in range(w.shape[0]):
        h = p * stride_h + r * dilation_h - top
        if h < 0 or h >= x.shape[1]:
            continue
        for s in range(w.shape[1]):
            v = q * stride_w + s * dilation_w - left
            if v < 0 or v >= x.shape[2]:
                continue
            for c in range(w.shape[2]):
                total += x[n, h, v, first + c] * w[r, s, c, k]
    if has_bias:
        total += bias[k]
    y[n, p, q, k] = activate(total, x.dtype.type(0), x.dtype.type(1), activation)


@inlined
def window_of(pixel, cell, pad, stride, dilation, windows):
    """The window whose cell `cell` lies on `pixel`, on one axis; -1 where there is none."""
    start = pixel + pad - cell * dilation
    window, between = split(max(start, 0), stride)
    return window if start >= 0 and between == 0 and window < windows else -1


@cuda.jit
def input_gradient(
    gy: Images, w: Weights, gx: Images,
    stride_h: Int, stride_w: Int, top: Int, left: Int, dilation_h: Int, dilation_w: Int,
    groups: Int,
):  # fmt: skip
    """One thread a value of gx, which asks the windows that it is in: Σ gy[n,p,q,k]·w[r,s,c,k]."""
    i = cuda.grid(1)
    if i >= gx.size:
        return
    n, h, v, channel = place(i, gx)
    filters, _ = split(gy.shape[3], groups)
    group, c = split(channel, w.shape[2])
    total = gy.dtype.type(0)
    for r in range(w.shape[0]):
        p = window_of(h, r, top, stride_h, dilation_h, gy.shape[1])
        if p < 0:
            continue
        for s in range(w.shape[1]):
            q = window_of(v, s, left, stride_w, dilation_w, gy.shape[2])
            if q < 0:
                continue
            for k in range(group * filters, (group + 1) * filters):
                total += gy[n, p, q, k] * w[r, s, c, k]
    gx[n, h, v, channel] = total


@cuda.jit
def weight_gradient(
    x: Images, gy: Images, gw: Weights,
    stride_h: Int, stride_w: Int, top: Int, left: Int, dilation_h: Int, dilation_w: Int,
    groups: Int,
):  # fmt: skip
    """One block a weight: a thread adds up x[n,h,v,c]·gy[n,p,q,k] over every so-manieth pixel.

    Their sums are added in shared memory, half as many threads each round: in the same order, and
    so to the same bits, every time. `blockDim.x` is a power of two, up to BLOCK.
    """
    r, s, c, k = place(cuda.blockIdx.x, gw)
    filters, _ = split(gy.shape[3], groups)
    group, _ = split(k, filters)
    channel = group * gw.shape[2] + c
    t = cuda.threadIdx.x
    total = x.dtype.type(0)
    for pixel in range(t, gy.shape[0] * gy.shape[1] * gy.shape[2], cuda.blockDim.x):
        rest, q = split(pixel, gy.shape[2])
        n, p = split(rest, gy.shape[1])
        h = p * stride_h + r * dilation_h - top
        v = q * stride_w + s * dilation_w - left
        if h >= 0 and h < x.shape[1] and v >= 0 and v < x.shape[2]:
            total += x[n, h, v, channel] * gy[n, p, q, k]
    sums = cuda.shared.array(BLOCK, x.dtype)
    sums[t] = total
    half = cuda.blockDim.x // 2
    while half > 0:
        cuda.syncthreads()
        if t < half:
            sums[t] += sums[t + half]
        half //= 2
    if t == 0:
        gw[r, s, c, k] = sums[0]
