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
         const __grid_constant__ Pool pool) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;  // ((n·P + p)·Q + q)·C + c
    if (i >= size) return;
    const int channel = i % pool.c, pixel = i / pool.c;
    const int column = pixel % pool.q * pool.stride_w - pool.left;
    const int row = pixel / pool.q % pool.p * pool.stride_h - pool.top;
    const int image = pixel / pool.q / pool.p;
    const Cells rows = inside(row, pool.r, pool.h), columns = inside(column, pool.s, pool.w);
    T best = 0;
    int winner = 0;
    bool fresh = true;
    for (int a = rows.from; a < rows.to; ++a) {
        const T* line = x + ((image * pool.h + row + a) * pool.w + column) * pool.c + channel;
        for (int b = columns.from; b < columns.to; ++b) {
            const T cell = line[b * pool.c];
            // !(cell <= best) is true for a NaN too; best == best keeps the first NaN.
            if (fresh || (!(cell <= best) && best == best)) {
                best = cell;
                winner = a * pool.s + b;
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
                  const __grid_constant__ Pool pool) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;  // ((n·H + h)·W + w)·C + c
    if (i >= size) return;
    const int channel = i % pool.c, pixel = i / pool.c;
    const int column = pixel % pool.w, row = pixel / pool.w % pool.h;
    const int image = pixel / pool.w / pool.h;
    const Windows down = covering(row, pool.top, pool.r, pool.stride_h, pool.p);
    const Windows across = covering(column, pool.left, pool.s, pool.stride_w, pool.q);
    T sum = 0;
    for (int a = down.last; a >= down.first; --a) {
        const int above = (row + pool.top - a * pool.stride_h) * pool.s;
        for (int b = across.last; b >= across.first; --b) {
            const int cell = above + column + pool.left - b * pool.stride_w;
            const int from = ((image * pool.p + a) * pool.q + b) * pool.c + channel;
            if (static_cast<int>(index[from]) == cell) sum += gy[from];
        }
    }
    gx[i] = sum;
}

template <typename T>
__global__ void __launch_bounds__(256, 4)
average_pool(const T* __restrict__ x, T* __restrict__ y, int size,
             const __grid_constant__ Pool pool) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;  // ((n·P + p)·Q + q)·C + c
    if (i >= size) return;
    const int channel = i % pool.c, pixel = i / pool.c;
    const int column = pixel % pool.q * pool.stride_w - pool.left;
    const int row = pixel / pool.q % pool.p * pool.stride_h - pool.top;
    const int image = pixel / pool.q / pool.p;
    const Cells rows = inside(row, pool.r, pool.h), columns = inside(column, pool.s, pool.w);
    // Row by row, then the rows: a float32 sum over a whole map errs by R + S roundings, not R·S.
    T total = 0;
    for (int a = rows.from; a < rows.to; ++a) {
        const T* line = x + ((image * pool.h + row + a) * pool.w + column) * pool.c + channel;
        T sum = 0;
        for (int b = columns.from; b < columns.to; ++b) sum += line[b * pool.c];
        total += sum;
    }
    const int count = (rows.to - rows.from) * (columns.to - columns.from);
    y[i] = total / static_cast<T>(count > 0 ? count : 1);
}

template <typename T>
__global__ void __launch_bounds__(256, 4)
average_pool_gradient(const T* __restrict__ gy, T* __restrict__ gx, int size,
                      const __grid_constant__ Pool pool) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;  // ((n·H + h)·W + w)·C + c
    if (i >= size) return;
    const int channel = i % pool.c, pixel = i / pool.c;
    const int column = pixel % pool.w, row = pixel / pool.w % pool.h;
    const int image = pixel / pool.w / pool.h;
    const Windows down = covering(row, pool.top, pool.r, pool.stride_h, pool.p);
    const Windows across = covering(column, pool.left, pool.s, pool.stride_w, pool.q);
    T sum = 0;
    for (int a = down.last; a >= down.first; --a) {
        const Cells rows = inside(a * pool.stride_h - pool.top, pool.r, pool.h);
#pragma unroll 1  // a division each: unrolled, their operands spill
        for (int b = across.last; b >= across.first; --b) {
            const Cells columns = inside(b * pool.stride_w - pool.left, pool.s, pool.w);
            const int count = (rows.to - rows.from) * (columns.to - columns.from);
            const int from = ((image * pool.p + a) * pool.q + b) * pool.c + channel;
            sum += gy[from] / static_cast<T>(count);
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
