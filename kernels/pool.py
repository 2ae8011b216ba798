"""Pooling: windows R×S over images (N,H,W,C) -> (N,P,Q,C), the largest cell or the mean of each.

Twins of pool.cu, which draws the windows. One thread an output value, channels fastest, so that
neighbours read neighbouring channels of one cell. Backward gathers: one thread an input pixel,
which asks the windows that cover it, last first; scattering would need atomic additions, in an
order that changes from run to run.
"""

from numba import cuda

from gpukit.kernels.typed import Images, Int, Winners, inlined, place, split


@inlined
def inside(start, cells, pixels):
    """Cells from … to - 1 of a window that begins at pixel `start` are pixels, on one axis."""
    return max(-start, 0), min(cells, pixels - start)


@inlined
def covering(pixel, pad, cells, stride, windows):
    """Windows first … last cover a pixel, on one axis; none where first > last."""
    end = pixel + pad  # the pixel's place in the padded image
    first, _ = split(max(end - cells + stride, 0), stride)
    last, _ = split(end, stride)
    return first, min(last, windows - 1)


@cuda.jit
def max_pool(
    x: Images, y: Images, index: Winners, r: Int, s: Int,
    stride_h: Int, stride_w: Int, top: Int, left: Int,
):  # fmt: skip
    """y is the largest cell of each window, index which: ties the first, NaN before all."""
    i = cuda.grid(1)
    if i >= y.size:
        return
    n, p, q, c = place(i, y)
    row, column = p * stride_h - top, q * stride_w - left
    rows, columns = inside(row, r, x.shape[1]), inside(column, s, x.shape[2])
    best, winner, fresh = x.dtype.type(0), 0, True
    for a in range(rows[0], rows[1]):
        for b in range(columns[0], columns[1]):
            cell = x[n, row + a, column + b, c]
            # not (cell <= best) is true for a NaN, too; best == best keeps the first NaN.
            if fresh or (not (cell <= best) and best == best):
                best, winner, fresh = cell, a * s + b, False
    y[n, p, q, c] = best
    index[n, p, q, c] = winner


@cuda.jit
def max_pool_gradient(
    gy: Images, index: Winners, gx: Images, r: Int, s: Int,
    stride_h: Int, stride_w: Int, top: Int, left: Int,
):  # fmt: skip
    """gx of a pixel is the sum of gy over the windows that it won."""
    i = cuda.grid(1)
    if i >= gx.size:
        return
    n, h, w, c = place(i, gx)
    first_p, last_p = covering(h, top, r, stride_h, gy.shape[1])
    first_q, last_q = covering(w, left, s, stride_w, gy.shape[2])
    total = gy.dtype.type(0)
    for p in range(last_p, first_p - 1, -1):
        for q in range(last_q, first_q - 1, -1):
            cell = (h + top - p * stride_h) * s + w + left - q * stride_w
            if index[n, p, q, c] == cell:
                total += gy[n, p, q, c]
    gx[n, h, w, c] = total


@cuda.jit
def average_pool(
    x: Images, y: Images, r: Int, s: Int, stride_h: Int, stride_w: Int, top: Int, left: Int
):
    """y is the mean of each window's pixels; padding is not counted."""
    i = cuda.grid(1)
    if i >= y.size:
        return
    n, p, q, c = place(i, y)
    row, column = p * stride_h - top, q * stride_w - left
    rows, columns = inside(row, r, x.shape[1]), inside(column, s, x.shape[2])
    # Row by row, then the rows: a float32 sum over a whole map errs by R + S roundings, not R·S.
    total = x.dtype.type(0)
    for a in range(rows[0], rows[1]):
        line = x.dtype.type(0)
        for b in range(columns[0], columns[1]):
            line += x[n, row + a, column + b, c]
        total += line
    count = max((rows[1] - rows[0]) * (columns[1] - columns[0]), 1)
    y[n, p, q, c] = total / x.dtype.type(count)


@cuda.jit
def average_pool_gradient(
    gy: Images, gx: Images, r: Int, s: Int, stride_h: Int, stride_w: Int, top: Int, left: Int
):
    """gx of a pixel is the sum of its shares of gy in the windows that cover it."""
    i = cuda.grid(1)
    if i >= gx.size:
        return
    n, h, w, c = place(i, gx)
    first_p, last_p = covering(h, top, r, stride_h, gy.shape[1])
    first_q, last_q = covering(w, left, s, stride_w, gy.shape[2])
    total = gy.dtype.type(0)
    for p in range(last_p, first_p - 1, -1):
        rows = inside(p * stride_h - top, r, gx.shape[1])
        for q in range(last_q, first_q - 1, -1):
            columns = inside(q * stride_w - left, s, gx.shape[2])
            count = (rows[1] - rows[0]) * (columns[1] - columns[0])
            total += gy[n, p, q, c] / gy.dtype.type(count)
    gx[n, h, w, c] = total
