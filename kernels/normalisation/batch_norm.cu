// Batch normalisation over the channels of x, seen as (rows, columns): training, inference, gradient.
//
// What:    training: mean and variance of each column, then y = (x - mean)·gamma/σ + beta with
//          σ = √(variance + epsilon). Gradient, with z = (x - mean)/σ and M rows:
//          gbeta = Σ gy, ggamma = Σ gy·z, gx = gamma/σ·(gy - gbeta/M - z·ggamma/M).
// Bytes:   training reads x twice, once for both statistics, and writes y: 12 bytes an element of
//          float32; the gradient reads gy and x twice and writes gx, 20. Some 10 operations an element:
//          memory is the floor. 128 × 56 × 56 × 64: 308 MB, 64 µs at 4.8 TB/s, and 107 µs back.
// Shape:   a block of 256 threads is `lanes` columns (a power of two, up to 32) by 256/lanes rows, so
//          that a warp reads whole rows, or 128 bytes of one; a thread keeps its column, and what
//          belongs to it stays in registers while it goes down its rows.
//
//              ◄── lanes ──►
//              t0  t1  t2  t3     row 0        parts of rows_per_block rows go to blocks
//              t4  t5  t6  t7     row 1        parts · ⌈columns/lanes⌉ in all: enough to fill a card,
//              …                  …            few enough that the second stage is short
//              t0  t1  t2  t3     row 256/lanes
//
// Sums:    E[x²] - E[x]² loses every digit beside a large mean, and a second pass over x costs a third
//          more bytes. So each thread takes 8 values into registers, finds their mean and then the sum
//          of squares about it, and joins that to what it has (Chan, Golub and LeVeque, 1979). All of
//          it is done with x less the column's first value: means far from 0 keep their digits, too.
//
//              (n, mean, m2) + (k, mean', m2')  with d = mean' - mean:
//              mean + d·k/(n + k),  m2 + m2' + d²·n·k/(n + k)
//
//          Threads of a column meet in a tree by the same rule, blocks in a second launch. The
//          gradient's sums are added by eights likewise. No atomics, the order follows from the shape
//          alone: same call, same bits.
// Limit:   with fewer columns than a multiple of `lanes` some lanes idle.

#include "gpukit.cuh"

// Values that a thread loads before it adds: 8 float, 4 double, 32 bytes of registers.
template <typename T>
constexpr int TOGETHER = 32 / sizeof(T);

// How many values, their mean, and the sum of their squared distances from it.
template <typename T>
struct Moments {
    T count, mean, m2;
};

template <typename T>
__device__ __forceinline__ Moments<T> join(const Moments<T>& a, const Moments<T>& b) {
    if (b.count == 0) return a;
    if (a.count == 0) return b;
    const T count = a.count + b.count, share = b.count / count, apart = b.mean - a.mean;
    return {count, a.mean + apart * share, a.m2 + b.m2 + apart * apart * a.count * share};
}

// The part and the columns of this block, the column and the first row of this thread.
struct Place {
    int lanes, deep, column;
    long long part, first, end;

    __device__ Place(long long rows, int columns, int rows_per_block, int lanes_)
        : lanes(lanes_), deep(static_cast<int>(blockDim.x) / lanes_) {
        const int tiles = gpukit::divide_up(columns, lanes);
        column = static_cast<int>(blockIdx.x) % tiles * lanes + static_cast<int>(threadIdx.x) % lanes;
        part = static_cast<int>(blockIdx.x) / tiles;
        const long long begin = part * rows_per_block;
        first = begin + threadIdx.x / lanes;
        end = begin + rows_per_block < rows ? begin + rows_per_block : rows;
    }
};

// A column's moments from those of its threads, in those of the first row of threads.
template <typename T>
__device__ __forceinline__ Moments<T> join_rows(Moments<T> mine, int lanes) {
    __shared__ T counts[256], means[256], squares[256];
    const int me = threadIdx.x;
    for (int half = blockDim.x / 2; half >= lanes; half /= 2) {
        // Rows `half` and beyond hand theirs down; the space of this round is not that of the next.
        if (me >= half && me < 2 * half) {
            counts[me] = mine.count;
            means[me] = mine.mean;
            squares[me] = mine.m2;
        }
        __syncthreads();
        if (me < half) {
            mine = join(mine, {counts[me + half], means[me + half], squares[me + half]});
        }
    }
    return mine;
}

// means and squares (parts, columns): of each part, its mean less x[0] and Σ(x - mean)². A single part
// is all there is: then they are mean and variance.
template <typename T>
__global__ void __launch_bounds__(256, 4)
column_moments(const T* __restrict__ x, T* __restrict__ means, T* __restrict__ squares, long long rows,
               int columns, int rows_per_block, int parts, int lanes) {
    const Place at(rows, columns, rows_per_block, lanes);
    Moments<T> mine = {0, 0, 0};
    if (at.column < columns) {
        const T* from = x + at.column;
        const T pivot = *from;
        for (long long row = at.first; row < at.end; row += TOGETHER<T> * at.deep) {
            T values[TOGETHER<T>];
            T sum = 0;
            int count = 0;
#pragma unroll
            for (int i = 0; i < TOGETHER<T>; ++i) {
                const long long here = row + i * at.deep;
                values[i] = here < at.end ? from[here * columns] - pivot : T(0);
                sum += values[i];
                count += here < at.end;
            }
            const T mean = sum / count;
            T m2 = 0;
#pragma unroll
            for (int i = 0; i < TOGETHER<T>; ++i) {
                const T apart = i < count ? values[i] - mean : T(0);
                m2 += apart * apart;
            }
            mine = join(mine, {static_cast<T>(count), mean, m2});
        }
    }
    mine = join_rows(mine, lanes);
    if (static_cast<int>(threadIdx.x) < lanes && at.column < columns) {
        const bool last = parts == 1;
        means[at.part * columns + at.column] = last ? mine.mean + x[at.column] : mine.mean;
        squares[at.part * columns + at.column] = last ? mine.m2 / rows : mine.m2;
    }
}

// The second stage: parts (parts, columns) -> mean and variance (columns,). A block has `lanes` columns.
template <typename T>
__global__ void __launch_bounds__(256, 4)
join_moments(const T* __restrict__ x, const T* __restrict__ means, const T* __restrict__ squares,
             T* __restrict__ mean, T* __restrict__ variance, long long rows, int columns,
             int rows_per_block, int parts, int lanes) {
    const Place at(parts, columns, parts, lanes);
    Moments<T> mine = {0, 0, 0};
    if (at.column < columns) {
        for (long long part = at.first; part < parts; part += at.deep) {
            const long long left = rows - part * rows_per_block;
            const T count = static_cast<T>(left < rows_per_block ? left : rows_per_block);
            const long long i = part * columns + at.column;
            mine = join(mine, {count, means[i], squares[i]});
        }
    }
    mine = join_rows(mine, lanes);
    if (static_cast<int>(threadIdx.x) < lanes && at.column < columns) {
        mean[at.column] = mine.mean + x[at.column];
        variance[at.column] = mine.m2 / rows;
    }
}

// y = (x - mean)·gamma/σ + beta.
template <typename T>
__global__ void __launch_bounds__(256, 4)
normalise(const T* __restrict__ x, const T* __restrict__ gamma, const T* __restrict__ beta,
          const T* __restrict__ mean, const T* __restrict__ variance, T* __restrict__ y,
          long long rows, int columns, int rows_per_block, int lanes, T epsilon) {
    const Place at(rows, columns, rows_per_block, lanes);
    if (at.column >= columns) return;
    const T scale = gamma[at.column] / sqrt(variance[at.column] + epsilon);
    const T middle = mean[at.column], shift = beta[at.column];
#pragma unroll 4
    for (long long row = at.first; row < at.end; row += at.deep) {
        const long long i = row * columns + at.column;
        y[i] = (x[i] - middle) * scale + shift;
    }
}

// parts (parts, 2, columns): Σ gy, then Σ gy·z, of each part of the rows.
template <typename T>
__global__ void __launch_bounds__(256, 4)
gradient_sums(const T* __restrict__ gy, const T* __restrict__ x, const T* __restrict__ mean,
              const T* __restrict__ variance, T* __restrict__ parts, long long rows, int columns,
              int rows_per_block, int lanes, T epsilon) {
    __shared__ T betas[256], gammas[256];
    const Place at(rows, columns, rows_per_block, lanes);
    T beta = 0, gamma = 0;
    if (at.column < columns) {
        const T inverse = 1 / sqrt(variance[at.column] + epsilon), middle = mean[at.column];
        for (long long row = at.first; row < at.end; row += TOGETHER<T> * at.deep) {
            T some_beta = 0, some_gamma = 0;
#pragma unroll
            for (int j = 0; j < TOGETHER<T>; ++j) {
                const long long here = row + j * at.deep, i = here * columns + at.column;
                if (here < at.end) {
                    some_beta += gy[i];
                    some_gamma += gy[i] * ((x[i] - middle) * inverse);
                }
            }
            beta += some_beta;
            gamma += some_gamma;
        }
    }
    const int me = threadIdx.x;
    betas[me] = beta;
    gammas[me] = gamma;
    for (int half = blockDim.x / 2; half >= lanes; half /= 2) {
        __syncthreads();
        if (me < half) {
            betas[me] += betas[me + half];
            gammas[me] += gammas[me + half];
        }
    }
    if (me < lanes && at.column < columns) {
        parts[2 * at.part * columns + at.column] = betas[me];
        parts[(2 * at.part + 1) * columns + at.column] = gammas[me];
    }
}

// gx = gamma/σ·(gy - gbeta/M - z·ggamma/M), M = rows.
template <typename T>
__global__ void __launch_bounds__(256, 4)
input_gradient(const T* __restrict__ gy, const T* __restrict__ x, const T* __restrict__ gamma,
               const T* __restrict__ mean, const T* __restrict__ variance,
               const T* __restrict__ ggamma, const T* __restrict__ gbeta, T* __restrict__ gx,
               long long rows, int columns, int rows_per_block, int lanes, T epsilon) {
    const Place at(rows, columns, rows_per_block, lanes);
    if (at.column >= columns) return;
    const T inverse = 1 / sqrt(variance[at.column] + epsilon), middle = mean[at.column];
    const T scale = gamma[at.column] * inverse;
    const T shift = gbeta[at.column] / rows, slope = ggamma[at.column] / rows;
#pragma unroll 4
    for (long long row = at.first; row < at.end; row += at.deep) {
        const long long i = row * columns + at.column;
        gx[i] = scale * (gy[i] - shift - (x[i] - middle) * inverse * slope);
    }
}
