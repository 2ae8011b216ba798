// The mean of (y - t)² of each example, and its gradient.
//
// What:    y, t (rows, length) -> loss (rows,) = Σ (y - t)²/length; gradient gloss·2/length·(y - t).
// Bytes:   forward reads y and t once, 8 bytes an element of float32 and two operations; backward moves
//          12. Memory is the floor: 128 × 150,528 (images of 224 × 224 × 3),
//          154 MB, 32 µs at 4.8 TB/s. No array of differences is written in between.
// Shape:   a team a part of a row: a warp for rows of up to 1,024, eight rows a block, and no barriers;
//          else a block of 256 threads for every 16,384 values, so that few long rows fill a card; a
//          second launch (reduction.cu) adds the parts. A thread adds at most 64 values, then a tree:
//          float32 errs by some 70 roundings, and the order follows from the shape alone.
// Open:    no card has confirmed the rates.

// instances: squared_error<T, 32>, squared_error<T, 256>, squared_error_gradient<T>

#include "gpukit.cuh"
#include "team.cuh"

// loss (rows, parts): Σ (y - t)²/divisor over part values each, fewer in a row's last part.
template <typename T, int TEAM>
__global__ void __launch_bounds__(256, 4)
squared_error(const T* __restrict__ y, const T* __restrict__ t, T* __restrict__ loss, long long teams,
              long long length, int part, int parts, T divisor) {
    __shared__ T space[8];
    const long long team =
        static_cast<long long>(blockIdx.x) * (256 / TEAM) + static_cast<int>(threadIdx.x) / TEAM;
    if (team >= teams) return;  // a whole warp, or a whole block
    const long long row = team / parts, begin = team % parts * part;
    const long long end = begin + part < length ? begin + part : length;
    T sum = 0;
#pragma unroll 4
    for (long long k = begin + threadIdx.x % TEAM; k < end; k += TEAM) {
        const T difference = y[row * length + k] - t[row * length + k];
        sum += difference * difference;
    }
    sum = over_team<Sum, TEAM>(sum, space);
    if (threadIdx.x % TEAM == 0) loss[team] = sum / divisor;
}

// gy = gloss·(2/length)·(y - t), `scale` = 2/length.
template <typename T>
__global__ void __launch_bounds__(256, 4)
squared_error_gradient(const T* __restrict__ gloss, const T* __restrict__ y, const T* __restrict__ t,
                       T* __restrict__ gy, long long n, long long length, T scale) {
    const long long i = gpukit::thread_number();
    if (i < n) gy[i] = gloss[i / length] * scale * (y[i] - t[i]);
}
