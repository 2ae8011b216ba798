// Pooling: windows R×S over images (N,H,W,C) -> (N,P,Q,C), the largest cell or the mean of each.
//
// What:    window (p, q) covers rows p·stride_h - top … + R, clipped to the image: padding is never
//          the maximum and not counted in a mean. max_pool also gives which cell won, for backward.
// Bytes:   forward reads each pixel once from memory (overlapping windows find it in the cache) and
//          writes P·Q·C values, and for the maximum as many index bytes. LeNet-5's first pooling,
//          128 × 24 × 24 × 6, window 2: 1.8 MB read, 0.5 MB written, 2.3 µs at 1 TB/s. R·S
//          comparisons a value: memory is the floor.
// Shape:   one thread an output value, channels fastest, so that a warp reads 32 neighbouring channels
//          of one cell, then of the next: every request is full from 8 channels of float32 on.
//          Backward gathers: one thread an *input* pixel, which asks the windows that cover it:
//
//              windows 0 … P-1 of one axis, R = 3, stride = 2, top = 1
//              pixel h lies in windows ⌈(h + top - R + 1)/stride⌉ … ⌊(h + top)/stride⌋
//                       0 1 2 3 4 5 6
//                    [. . .]                 window 0
//                        [. . .]             window 1       pixel 3 asks windows 1 and 2
//                            [. . .]         window 2
//
//          Scattering gy instead would need atomic additions, in an order that changes from run to
//          run. Windows are asked last first: then a pixel's sum has the definition's order (cells
//          ascend as windows descend), and the same bits.
// Limit:   with fewer than 8 channels (LeNet-5 has 6) warps straddle pixels, and some sectors are read
//          twice from the first-level cache.

// instances: max_pool<T, unsigned char>, max_pool<T, unsigned short>, max_pool<T, unsigned int>
// instances: max_pool_gradient<T, unsigned char>, max_pool_gradient<T, unsigned short>
// instances: max_pool_gradient<T, unsigned int>

#include "covering.cuh"

// A window's cells that are pixels, along one axis: cells `from` … `to` - 1.
struct Cells {
    int from, to;
};

__device__ __forceinline__ Cells inside(int start, int cells, int pixels) {
    return {start < 0 ? -start : 0, start + cells > pixels ? pixels - start : cells};
}

template <typename T, typename I>
__global__ void __launch_bounds__(256, 4)
max_pool(const T* __restrict__ x, T* __restrict__ y, I* __restrict__ index, int size,
         int h, int w, int c, int p, int q, int r, int s, int stride_h, int stride_w, int top,
         int left) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;  // ((n·P + p)·Q + q)·C + c
    if (i >= size) return;
    const int channel = i % c, pixel = i / c;
    const int column = pixel % q * stride_w - left;
    const int row = pixel / q % p * stride_h - top;
    const int image = pixel / q / p;
    const Cells rows = inside(row, r, h), columns = inside(column, s, w);
    T best = 0;
    int winner = 0;
    bool fresh = true;
    for (int a = rows.from; a < rows.to; ++a) {
        const T* line = x + ((image * h + row + a) * w + column) * c + channel;
        for (int b = columns.from; b < columns.to; ++b) {
            const T cell = line[b * c];
            // !(cell <= best) is true for a NaN too; best == best keeps the first NaN.
            if (fresh || (!(cell <= best) && best == best)) {
                best = cell;
                winner = a * s + b;
                fresh = false;
            }
        }
    }
    y[i] = best;
    index[i] = static_cast<I>(winner);
}

template <typename T, typename I>
__global__ void __launch_bounds__(256, 4)
max_pool_gradient(const T* __restrict__ gy, const I* __restrict__ index, T* __restrict__ gx, int size,
                  int h, int w, int c, int p, int q, int r, int s, int stride_h, int stride_w,
                  int top, int left) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;  // ((n·H + h)·W + w)·C + c
    if (i >= size) return;
    const int channel = i % c, pixel = i / c;
    const int column = pixel % w, row = pixel / w % h, image = pixel / w / h;
    const Windows down = covering(row, top, r, stride_h, p);
    const Windows across = covering(column, left, s, stride_w, q);
    T sum = 0;
    for (int a = down.last; a >= down.first; --a) {
        const int above = (row + top - a * stride_h) * s;
        for (int b = across.last; b >= across.first; --b) {
            const int cell = above + column + left - b * stride_w;
            const int from = ((image * p + a) * q + b) * c + channel;
            if (static_cast<int>(index[from]) == cell) sum += gy[from];
        }
    }
    gx[i] = sum;
}

template <typename T>
__global__ void __launch_bounds__(256, 4)
average_pool(const T* __restrict__ x, T* __restrict__ y, int size, int h, int w, int c, int p, int q,
             int r, int s, int stride_h, int stride_w, int top, int left) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;  // ((n·P + p)·Q + q)·C + c
    if (i >= size) return;
    const int channel = i % c, pixel = i / c;
    const int column = pixel % q * stride_w - left;
    const int row = pixel / q % p * stride_h - top;
    const int image = pixel / q / p;
    const Cells rows = inside(row, r, h), columns = inside(column, s, w);
    // Row by row, then the rows: a float32 sum over a whole map errs by R + S roundings, not R·S.
    T total = 0;
    for (int a = rows.from; a < rows.to; ++a) {
        const T* line = x + ((image * h + row + a) * w + column) * c + channel;
        T sum = 0;
        for (int b = columns.from; b < columns.to; ++b) sum += line[b * c];
        total += sum;
    }
    const int count = (rows.to - rows.from) * (columns.to - columns.from);
    y[i] = total / static_cast<T>(count > 0 ? count : 1);
}

template <typename T>
__global__ void __launch_bounds__(256, 4)
average_pool_gradient(const T* __restrict__ gy, T* __restrict__ gx, int size, int h, int w, int c,
                      int p, int q, int r, int s, int stride_h, int stride_w, int top, int left) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;  // ((n·H + h)·W + w)·C + c
    if (i >= size) return;
    const int channel = i % c, pixel = i / c;
    const int column = pixel % w, row = pixel / w % h, image = pixel / w / h;
    const Windows down = covering(row, top, r, stride_h, p);
    const Windows across = covering(column, left, s, stride_w, q);
    T sum = 0;
    for (int a = down.last; a >= down.first; --a) {
        const Cells rows = inside(a * stride_h - top, r, h);
#pragma unroll 1  // a division each: unrolled, their operands spill
        for (int b = across.last; b >= across.first; --b) {
            const Cells columns = inside(b * stride_w - left, s, w);
            const int count = (rows.to - rows.from) * (columns.to - columns.from);
            sum += gy[((image * p + a) * q + b) * c + channel] / static_cast<T>(count);
        }
    }
    gx[i] = sum;
}

// gy (N,C) / pixels at every pixel: gx (N, pixels, C). Global average *forward* is a mean over the
// middle axis: reduction.cu.
template <typename T>
__global__ void __launch_bounds__(256, 4)
global_average_gradient(const T* __restrict__ gy, T* __restrict__ gx, int size, int pixels, int c) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;  // (n·pixels + pixel)·C + c
    if (i >= size) return;
    gx[i] = gy[i / c / pixels * c + i % c] / static_cast<T>(pixels);
}
