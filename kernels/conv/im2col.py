"""Convolution by matrix products over a copied panel: im2col, three products, col2im.

    panel (G, pixels of y, R·S·C/G)     row (n, p, q): what that pixel's window sees of a group,
                                        x[cell (0,0), C/G channels], x[cell (0,1), …], …

    forward           y_g     = panel_g · w_g        (pixels, R·S·C/G) · (R·S·C/G, K/G)
    weight gradient   gw_g    = panel_gᵀ · gy_g
    input gradient    panel_g = gy_g · w_gᵀ, then every pixel of x adds up the cells copied from it

Twins of conv/im2col.cu and linear.cu. Weights are matrices (R·S·C/G, K), images (pixels, K); group
g has columns g·K/G … of both. A block computes a tile of 16×16 results: it brings tiles of both
factors to shared memory, multiplies these, and goes on along the sum. Each number brought serves 16
products. A tile's products are added up before they join the sum: long sums stay accurate.
"""

from numba import cuda

from gpukit.kernels.activation import activate
from gpukit.kernels.conv.direct import window_of
from gpukit.kernels.typed import Images, Int, Matrix, Panel, Vector, place, split

TILE = 16
PADDED = TILE + 1


@cuda.jit
def im2col(
    x: Images, panel: Panel, r: Int, s: Int, p: Int, q: Int,
    stride_h: Int, stride_w: Int, top: Int, left: Int, dilation_h: Int, dilation_w: Int,
    groups: Int,
):  # fmt: skip
    """One thread a number of the panel, whose windows are R×S and images P×Q."""
    i = cuda.grid(1)
    if i >= panel.size:
        return
    depth, _ = split(x.shape[3], groups)
    rest, column = split(i, panel.shape[2])
    group, pixel = split(rest, panel.shape[1])
    cell, c = split(column, depth)
    cell_row, cell_column = split(cell, s)
    rest, window_column = split(pixel, q)
    n, window_row = split(rest, p)
    h = window_row * stride_h + cell_row * dilation_h - top
    v = window_column * stride_w + cell_column * dilation_w - left
    value = x.dtype.type(0)
    if h >= 0 and h < x.shape[1] and v >= 0 and v < x.shape[2]:
        value = x[n, h, v, group * depth + c]
    panel[group, pixel, column] = value


@cuda.jit
def col2im(
    panel: Panel, gx: Images, r: Int, s: Int, p: Int, q: Int,
    stride_h: Int, stride_w: Int, top: Int, left: Int, dilation_h: Int, dilation_w: Int,
    groups: Int,
):  # fmt: skip
    """One thread a value of gx: it adds up the panel's numbers that im2col would copy from it."""
    i = cuda.grid(1)
    if i >= gx.size:
        return
    n, h, v, channel = place(i, gx)
    depth, _ = split(gx.shape[3], groups)
    group, c = split(channel, depth)
    total = gx.dtype.type(0)
    for a in range(r):
        row = window_of(h, a, top, stride_h, dilation_h, p)
        if row < 0:
            continue
        for b in range(s):
            column = window_of(v, b, left, stride_w, dilation_w, q)
            if column >= 0:
                total += panel[group, (n * p + row) * q + column, (a * s + b) * depth + c]
    gx[n, h, v, channel] = total


@cuda.jit
def forward_product(
    panel: Panel, w: Matrix, bias: Vector, y: Matrix, has_bias: Int, activation: Int, filters: Int
):
    """y[i, g·K/G + k] = φ(b + Σ_j panel[g, i, j]·w[j, g·K/G + k]); blockIdx.z is g."""
    ours = cuda.shared.array((TILE, TILE), panel.dtype)
    theirs = cuda.shared.array((TILE, TILE), panel.dtype)
    tx, ty, g = cuda.threadIdx.x, cuda.threadIdx.y, cuda.blockIdx.z
    i, k = cuda.blockIdx.x * TILE + ty, cuda.blockIdx.y * TILE + tx
    zero = panel.dtype.type(0)
    total = zero
    for step in range(0, panel.shape[2], TILE):
        a = b = zero
        if i < panel.shape[1] and step + tx < panel.shape[2]:
            a = panel[g, i, step + tx]
        if step + ty < panel.shape[2] and k < filters:
            b = w[step + ty, g * filters + k]
        ours[ty, tx], theirs[ty, tx] = a, b
        cuda.syncthreads()
        part = zero
        for j in range(TILE):
            part += ours[ty, j] * theirs[j, tx]
        total += part
        cuda.syncthreads()
    if i < panel.shape[1] and k < filters:
        if has_bias:
            total += bias[g * filters + k]
        y[i, g * filters + k] = activate(total, zero, panel.dtype.type(1), activation)


@cuda.jit
def input_product(gy: Matrix, w: Matrix, panel: Panel, filters: Int):
    """panel[g, i, j] = Σ_k gy[i, g·K/G + k]·w[j, g·K/G + k]; blockIdx.z is g."""
    ours = cuda.shared.array((TILE, TILE), gy.dtype)
    # Read by columns: a seventeenth number a row puts a column's numbers into different banks.
    theirs = cuda.shared.array((TILE, PADDED), gy.dtype)
    tx, ty, g = cuda.threadIdx.x, cuda.threadIdx.y, cuda.blockIdx.z
    i, first = cuda.blockIdx.x * TILE + ty, cuda.blockIdx.y * TILE
    zero = gy.dtype.type(0)
    total = zero
    for step in range(0, filters, TILE):
        a = b = zero
        if i < panel.shape[1] and step + tx < filters:
            a = gy[i, g * filters + step + tx]
        if first + ty < panel.shape[2] and step + tx < filters:
            b = w[first + ty, g * filters + step + tx]
        ours[ty, tx], theirs[ty, tx] = a, b
        cuda.syncthreads()
        part = zero
        for k in range(TILE):
            part += ours[ty, k] * theirs[tx, k]
        total += part
        cuda.syncthreads()
    if i < panel.shape[1] and first + tx < panel.shape[2]:
        panel[g, i, first + tx] = total


@cuda.jit
def weight_product(panel: Panel, gy: Matrix, gw: Matrix, accumulate: Int, filters: Int):
    """gw[j, g·K/G + k] = [gw +] Σ_i panel[g, i, j]·gy[i, g·K/G + k]; blockIdx.z is g."""
    ours = cuda.shared.array((TILE, TILE), panel.dtype)
    theirs = cuda.shared.array((TILE, TILE), panel.dtype)
    tx, ty, g = cuda.threadIdx.x, cuda.threadIdx.y, cuda.blockIdx.z
    first, k = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE + tx
    zero = panel.dtype.type(0)
    total = zero
    for step in range(0, panel.shape[1], TILE):
        a = b = zero
        if step + ty < panel.shape[1] and first + tx < panel.shape[2]:
            a = panel[g, step + ty, first + tx]
        if step + ty < panel.shape[1] and k < filters:
            b = gy[step + ty, g * filters + k]
        ours[ty, tx], theirs[ty, tx] = a, b
        cuda.syncthreads()
        part = zero
        for i in range(TILE):
            part += ours[i, ty] * theirs[i, tx]
        total += part
        cuda.syncthreads()
    if first + ty < panel.shape[2] and k < filters:
        at = g * filters + k
        gw[first + ty, at] = gw[first + ty, at] + total if accumulate else total
