// Softmax, its logarithm, and the cross-entropy loss fused with it; over rows of K classes.
//
// What:    p = exp(x - m) / Σ exp(x - m), m the row's maximum, so that nothing overflows;
//          log p = x - m - log Σ; loss = -Σ t·log p; backward p·(gy - Σ gy·p) and so on, below.
// Bytes:   each row is read two or three times, but only the first time from memory (a row of 1,000
//          float32 is 4 KB, the first-level cache 128 KB or more), and written once: 8 bytes an
//          element. 128 rows of 1,000 classes: 1 MB, 1 µs at 1 TB/s, less than a launch. LeNet-5's
//          128 × 10 is nothing at all: fusing saves launches, loss and probabilities take one.
// Shape:   a team a row. Up to 1,024 classes the team is a warp, eight rows a block: no barriers, only
//          shuffles (team.cuh). Beyond, a block of 256 threads. Lanes go through the row in steps of
//          the team's size, so a warp reads 32 neighbours.
//
//              row  0  1  2  …  31 | 32  33 …        lane 0 takes 0, 32, 64 …
//
//          Each lane sums at most K/team values, then a tree: float32 errs little.
//
// TEAM is 32 or 256. A block has 256 threads in either case, so 256/TEAM rows; rows beyond the last
// repeat nothing and write nothing, but whole warps or blocks leave, never parts of a team.

#include "team.cuh"
#include "gpukit.cuh"

// instances: softmax<T, 32, false>, softmax<T, 32, true>, softmax<T, 256, false>
// instances: softmax<T, 256, true>, softmax_gradient<T, 32, false>, softmax_gradient<T, 32, true>
// instances: softmax_gradient<T, 256, false>, softmax_gradient<T, 256, true>
// instances: cross_entropy_labels<T, 32, unsigned char>, cross_entropy_labels<T, 32, int>
// instances: cross_entropy_labels<T, 32, long long>, cross_entropy_labels<T, 256, unsigned char>
// instances: cross_entropy_labels<T, 256, int>, cross_entropy_labels<T, 256, long long>
// instances: cross_entropy_targets<T, 32>, cross_entropy_targets<T, 256>
// instances: cross_entropy_targets_gradient<T, 32>, cross_entropy_targets_gradient<T, 256>
// instances: cross_entropy_labels_gradient<T, unsigned char>, cross_entropy_labels_gradient<T, int>
// instances: cross_entropy_labels_gradient<T, long long>


// Which row this team has, which lane of the team this thread is, and where the team's row starts.
template <int TEAM>
__device__ __forceinline__ int row_of_team() {
    return blockIdx.x * (256 / TEAM) + threadIdx.x / TEAM;
}

template <int TEAM, typename T>
__device__ __forceinline__ T row_maximum(const T* row, int classes, int lane, T* space) {
    T most = row[0];
    for (int k = lane; k < classes; k += TEAM) most = Max::of(most, row[k]);
    return over_team<Max, TEAM>(most, space);
}

template <int TEAM, typename T>
__device__ __forceinline__ T row_exponentials(const T* row, int classes, int lane, T most, T* space) {
    T sum = 0;
    for (int k = lane; k < classes; k += TEAM) sum += exp(row[k] - most);
    return over_team<Sum, TEAM>(sum, space);
}

template <typename T, int TEAM, bool LOG>
__global__ void __launch_bounds__(256, 4)
softmax(const T* __restrict__ x, T* __restrict__ y, int rows, int classes) {
    __shared__ T space[8];
    const int number = row_of_team<TEAM>(), lane = threadIdx.x % TEAM;
    if (number >= rows) return;
    const long long start = static_cast<long long>(number) * classes;
    const T* row = x + start;
    const T most = row_maximum<TEAM>(row, classes, lane, space);
    const T sum = row_exponentials<TEAM>(row, classes, lane, most, space);
    const T shift = LOG ? log(sum) : T(0);
    for (int k = lane; k < classes; k += TEAM) {
        const T shifted = row[k] - most;
        y[start + k] = LOG ? shifted - shift : exp(shifted) / sum;
    }
}

// softmax: gx = y·(gy - Σ gy·y); logarithm: gx = gy - e^y·Σ gy.
template <typename T, int TEAM, bool LOG>
__global__ void __launch_bounds__(256, 4)
softmax_gradient(const T* __restrict__ gy, const T* __restrict__ y, T* __restrict__ gx, int rows,
                 int classes) {
    __shared__ T space[8];
    const int number = row_of_team<TEAM>(), lane = threadIdx.x % TEAM;
    if (number >= rows) return;
    const long long start = static_cast<long long>(number) * classes;
    T sum = 0;
    for (int k = lane; k < classes; k += TEAM) {
        sum += LOG ? gy[start + k] : gy[start + k] * y[start + k];
    }
    sum = over_team<Sum, TEAM>(sum, space);
    for (int k = lane; k < classes; k += TEAM) {
        const T g = gy[start + k], out = y[start + k];
        gx[start + k] = LOG ? g - exp(out) * sum : out * (g - sum);
    }
}

// Labels: loss (rows,) = -log p[label] = m + log Σ - x[label]. A label outside 0 … K-1 gives NaN.
template <typename T, int TEAM, typename L>
__global__ void __launch_bounds__(256, 4)
cross_entropy_labels(const T* __restrict__ x, const L* __restrict__ labels, T* __restrict__ loss,
                     T* __restrict__ probabilities, int rows, int classes) {
    __shared__ T space[8];
    const int number = row_of_team<TEAM>(), lane = threadIdx.x % TEAM;
    if (number >= rows) return;
    const long long start = static_cast<long long>(number) * classes;
    const T* row = x + start;
    const T most = row_maximum<TEAM>(row, classes, lane, space);
    const T sum = row_exponentials<TEAM>(row, classes, lane, most, space);
    for (int k = lane; k < classes; k += TEAM) {
        probabilities[start + k] = exp(row[k] - most) / sum;
    }
    if (lane == 0) {
        const long long label = static_cast<long long>(labels[number]);
        const bool known = label >= 0 && label < classes;
        const T chosen = row[known ? label : 0] - most;
        const T nothing = T(0) * (T(1) / (sum - sum));  // 0·∞: NaN, without a name for it
        loss[number] = known ? log(sum) - chosen : nothing;
    }
}

// Probabilities as targets (rows, K), of any sum: loss = -Σ t·log p.
template <typename T, int TEAM>
__global__ void __launch_bounds__(256, 4)
cross_entropy_targets(const T* __restrict__ x, const T* __restrict__ targets, T* __restrict__ loss,
                      T* __restrict__ probabilities, int rows, int classes) {
    __shared__ T space[8];
    const int number = row_of_team<TEAM>(), lane = threadIdx.x % TEAM;
    if (number >= rows) return;
    const long long start = static_cast<long long>(number) * classes;
    const T* row = x + start;
    const T most = row_maximum<TEAM>(row, classes, lane, space);
    const T sum = row_exponentials<TEAM>(row, classes, lane, most, space);
    const T shift = log(sum);
    T total = 0;
    for (int k = lane; k < classes; k += TEAM) {
        const T shifted = row[k] - most;
        total += targets[start + k] * (shifted - shift);
        probabilities[start + k] = exp(shifted) / sum;
    }
    total = over_team<Sum, TEAM>(total, space);
    if (lane == 0) loss[number] = -total;
}

// gx = gloss·(p - [k = label]); one thread an element: nothing is summed.
template <typename T, typename L>
__global__ void __launch_bounds__(256, 4)
cross_entropy_labels_gradient(const T* __restrict__ gloss, const T* __restrict__ probabilities,
                              const L* __restrict__ labels, T* __restrict__ gx, int rows,
                              int classes) {
    const long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= static_cast<long long>(rows) * classes) return;
    const int row = static_cast<int>(i / classes), k = static_cast<int>(i % classes);
    const T hit = static_cast<long long>(labels[row]) == k ? T(1) : T(0);
    gx[i] = gloss[row] * (probabilities[i] - hit);
}

// gx = gloss·(p·Σt - t).
template <typename T, int TEAM>
__global__ void __launch_bounds__(256, 4)
cross_entropy_targets_gradient(const T* __restrict__ gloss, const T* __restrict__ probabilities,
                               const T* __restrict__ targets, T* __restrict__ gx, int rows,
                               int classes) {
    __shared__ T space[8];
    const int number = row_of_team<TEAM>(), lane = threadIdx.x % TEAM;
    if (number >= rows) return;
    const long long start = static_cast<long long>(number) * classes;
    T sum = 0;
    for (int k = lane; k < classes; k += TEAM) sum += targets[start + k];
    sum = over_team<Sum, TEAM>(sum, space);
    for (int k = lane; k < classes; k += TEAM) {
        gx[start + k] = gloss[number] * (probabilities[start + k] * sum - targets[start + k]);
    }
}

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

// instances: squared_error<T, 32>, squared_error<T, 256>, squared_error_gradient<T>


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
