// Sums, means and maxima over axes, and where a maximum is.
//
// What:    x (outer, length, inner) -> y (outer, inner), reduced over the middle axis. Every choice of
//          axes is a few such passes: neighbouring axes that are reduced alike are one, and of several
//          separated groups the launcher reduces the last first.
// Bytes:   reads each element once, 4 n in float32, one operation an element: memory is the floor,
//          4 µs for a million at 1 TB/s.
// Shape:   a block of 256 threads is (wide, deep, many) = (columns of inner, threads along length,
//          rows of outer), so that it fits rows of every kind, and warps read neighbours:
//
//              inner = 1, long rows      1 × 256 × 1      thread t takes elements t, t + 256 …
//              inner = 1, 10 long        1 ×  16 × 16     16 rows a block
//              inner ≥ 32 (bias gradient) 32 × 8 × 1      a warp reads 32 columns of one row
//              inner = 2                  2 × 128 × 1     a warp reads 16 whole rows
//
//          A thread adds at most 64 values one after the other; the `deep` threads of a column then
//          meet in a tree in shared memory, and a longer axis is cut into parts whose results a
//          second pass reduces. So float32 errs by some 64 + 8 roundings for 16,384 values and 72
//          more for 2²⁸, where a running sum errs by as many as there are values. The order is fixed
//          by the shape alone: same call, same bits.
//
// Index:   `length` may pass 2³¹, offsets are 64 bits wide; outer and inner, what is left, are ints.
//
// y is (outer, parts, inner); every value is divided by `divisor`, which is 1 but for a mean.
//
// argmax goes the same way with pairs of a value and its place along the axis. Of equal values the
// first wins, a NaN wins over numbers and the first NaN over others, whichever order pairs meet in.

#include "team.cuh"
#include "gpukit.cuh"
#include "pack.cuh"

// instances: reduce<T, Sum>, reduce<T, Max>


template <typename T, typename Op>
__global__ void __launch_bounds__(256, 4)
reduce(const T* __restrict__ x, T* __restrict__ y, int outer, long long length, int inner,
       long long part, int parts, T divisor) {
    __shared__ T space[256];
    const int wide = blockDim.x, deep = blockDim.y;
    const int mine = (threadIdx.z * deep + threadIdx.y) * wide + threadIdx.x;

    // blockIdx.x = (group of rows · parts + part) · tiles + tile of columns
    const int tiles = (inner + wide - 1) / wide;
    const int column = blockIdx.x % tiles * wide + threadIdx.x;
    const int cut = blockIdx.x / tiles % parts;
    const int row = blockIdx.x / tiles / parts * blockDim.z + threadIdx.z;
    const bool ours = row < outer && column < inner;

    const long long from = cut * part;
    const long long to = length - from < part ? length : from + part;
    T value = 0;
    if (ours) {
        const T* start = x + row * length * inner + column;
        value = Op::start(start[from * inner]);
#pragma unroll 4
        for (long long i = from + threadIdx.y; i < to; i += deep) {
            value = Op::of(value, start[i * inner]);
        }
    }
    space[mine] = value;
    __syncthreads();
    for (int half = deep / 2; half > 0; half /= 2) {
        if (threadIdx.y < half) space[mine] = Op::of(space[mine], space[mine + half * wide]);
        __syncthreads();
    }
    if (ours && threadIdx.y == 0) {
        y[(static_cast<long long>(row) * parts + cut) * inner + column] = space[mine] / divisor;
    }
}

// Whether value a at place i is to be preferred to value b at place j.
template <typename T>
__device__ __forceinline__ bool better(T a, long long i, T b, long long j) {
    const bool a_nan = a != a, b_nan = b != b;
    if (a_nan != b_nan) return a_nan;
    return a_nan || a == b ? i < j : a > b;
}

// x (outer, length, inner) -> best value and its place (outer, parts, inner). Values of an earlier pass
// bring their places along; else a value's place is where it lies on the axis.
template <typename T>
__global__ void __launch_bounds__(256, 4)
argmax(const T* __restrict__ x, const long long* __restrict__ places_or_null, T* __restrict__ best,
       long long* __restrict__ place, int outer, long long length, int inner, long long part,
       int parts) {
    __shared__ T values[256];
    __shared__ long long places[256];
    const int wide = blockDim.x, deep = blockDim.y;
    const int mine = (threadIdx.z * deep + threadIdx.y) * wide + threadIdx.x;
    const int tiles = (inner + wide - 1) / wide;
    const int column = blockIdx.x % tiles * wide + threadIdx.x;
    const int cut = blockIdx.x / tiles % parts;
    const int row = blockIdx.x / tiles / parts * blockDim.z + threadIdx.z;
    const bool ours = row < outer && column < inner;

    const long long from = cut * part;
    const long long to = length - from < part ? length : from + part;
    T value = 0;
    long long at = -1;
    if (ours) {
        const long long start = row * length * inner + column;
        for (long long i = from + threadIdx.y; i < to; i += deep) {
            const long long here = start + i * inner;
            const long long its = places_or_null ? places_or_null[here] : i;
            if (at < 0 || better(x[here], its, value, at)) {
                value = x[here];
                at = its;
            }
        }
    }
    values[mine] = value;
    places[mine] = at;
    __syncthreads();
    for (int half = deep / 2; half > 0; half /= 2) {
        if (threadIdx.y < half) {
            const int other = mine + half * wide;
            const bool empty = places[other] < 0;
            if (!empty && (places[mine] < 0 ||
                           better(values[other], places[other], values[mine], places[mine]))) {
                values[mine] = values[other];
                places[mine] = places[other];
            }
        }
        __syncthreads();
    }
    if (ours && threadIdx.y == 0) {
        const long long to_here = (static_cast<long long>(row) * parts + cut) * inner + column;
        best[to_here] = values[mine];
        place[to_here] = places[mine];
    }
}

// Whether all numbers of an array are finite: one flag, left on the card.
//
// What:    flag = no element is NaN or infinite. Two launches and no copy: nothing waits for the stream,
//          until someone who wants to know reads one byte.
// Bytes:   reads each element once, 4 n in float32, one subtraction each: memory is the floor. AlexNet's
//          61 million parameters are 244 MB, 51 µs at 4.8 TB/s; a copy to the host would take 10 ms.
// Shape:   some hundred blocks go through the array in packs of 16 bytes (pack.cuh), each writes what it
//          found as one byte; then one block looks at these. No atomics, and no flag to clear before.
//          v - v is 0 for numbers and NaN for the others.

// instances: finite_parts<T>


template <typename T>
__device__ __forceinline__ bool finite(T v) {
    return v - v == 0;
}

template <typename T>
__global__ void __launch_bounds__(256, 4)
finite_parts(const T* __restrict__ x, bool* __restrict__ flags, long long n) {
    constexpr int V = Pack<T>::size;
    const bool packed = aligned(x);
    bool good = true;
    for (long long pack = gpukit::thread_number(); pack * V < n; pack += gpukit::thread_count()) {
        const long long first = pack * V;
        if (packed && first + V <= n) {
            const Pack<T> values = load(x + first);
#pragma unroll
            for (int i = 0; i < V; ++i) good = good && finite(values.at[i]);
        } else {
            for (long long i = first; i < first + V && i < n; ++i) good = good && finite(x[i]);
        }
    }
    const int all = __syncthreads_and(good);
    if (threadIdx.x == 0) flags[blockIdx.x] = all != 0;
}

// One block: whether all of n flags are set.
__global__ void __launch_bounds__(256, 4)
all_set(const bool* __restrict__ flags, bool* __restrict__ flag, int n) {
    bool good = true;
    for (int i = threadIdx.x; i < n; i += blockDim.x) good = good && flags[i];
    const int all = __syncthreads_and(good);
    if (threadIdx.x == 0) *flag = all != 0;
}
