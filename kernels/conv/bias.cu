// The bias gradient: sums of the columns of gy, seen as (rows, columns) with columns = filters.
//
//              ◄── lanes ──►          A block takes `lanes` columns (a power of two, up to 32) and
//   row 0      t0  t1  t2  t3         rows_per_block rows; 256 / lanes rows are read at a time, so a
//   row 1      t4  t5  t6  t7         warp reads whole rows where there are few filters, 128 bytes of
//   row 2      t0  t1  t2  t3         one where there are many. Each thread adds every (256/lanes)-th
//   …                                 row, then halves add in shared memory, 128, 64 … in that order.
//
// Every block writes one row of partial sums; the launcher runs the kernel again on these until one
// row is left: two passes for up to a million rows, no atomics, the same bits every run. A thread
// adds at most a few dozen numbers, then the tree: float32 keeps its digits however long the batch.
//
// Bytes: gy once, everything else is small. conv1 of AlexNet, batch 128: 387200×96 float32, 149 MB,
// 31 µs at 4.8 TB/s. One addition for 4 bytes, so nothing but the reading matters; with fewer
// columns than a multiple of `lanes` some lanes idle.
#include "gpukit.cuh"

template <typename T>
__global__ void __launch_bounds__(256, 4)
    column_sums(const T* __restrict__ x, T* __restrict__ parts, long long rows, int columns,
                int rows_per_block, int lanes) {
    __shared__ T sums[256];
    const int tiles = gpukit::divide_up(columns, lanes);
    const int column = blockIdx.x % tiles * lanes + threadIdx.x % lanes;
    const long long block = blockIdx.x / tiles, begin = block * rows_per_block;
    const long long end = min(begin + rows_per_block, rows);

    T sum = T(0);
    if (column < columns) {
        const T* const from = x + column;
#pragma unroll 4
        for (long long row = begin + threadIdx.x / lanes; row < end; row += blockDim.x / lanes)
            sum += from[row * columns];
    }
    sums[threadIdx.x] = sum;
    for (int half = blockDim.x / 2; half >= lanes; half /= 2) {
        __syncthreads();
        if (static_cast<int>(threadIdx.x) < half)
            sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    if (static_cast<int>(threadIdx.x) < lanes && column < columns)
        parts[block * columns + column] = sums[threadIdx.x];
}
