// Sums over neighbouring channels inside a warp, and the powers that response normalisation takes.
//
// An array (…,C) is a run of packs of V channels (16 bytes; 4 of float, 2 of double), one pack a lane.
// The neighbours of a lane's channels are the other lanes' values, fetched by shuffles:
//
//   lane          l - 1            l            l + 1          V = 4, size 5: two values from
//   channels   0  1  2  3 |  4  5  6  7 |  8  9 10 11         each side, four shuffles a lane
//   sum of 4         2+ 3 +  4+ 5+ 6
//   sum of 7                    5+ 6+ 7 +  8+ 9
//
// A warp's outermost lanes have no neighbours on one side. So warps overlap: HALO lanes at each end
// only serve the others, and a warp finishes 32 - 2·HALO packs. What overlaps comes from the cache:
// memory is read once.
//
// Groups need no care: (…,C) in G groups is (…·G, C/G) in one, and C/G is a multiple of V. `place` is
// a lane's place in such a segment of `length` channels; what lies outside it counts as zero.

#pragma once

#include "gpukit.cuh"
#include "pack.cuh"
#include "ptx.cuh"

constexpr unsigned ALL_LANES = 0xffffffffu;

// How many of a pack of `v` one needs to reach `channels` channels.
__host__ __device__ constexpr int packs_for(int channels, int v) {
    return (channels + v - 1) / v;
}

// The pack of this lane where warps finish 32 - 2·HALO packs each and overlap by HALO at both ends.
template <int HALO>
__device__ __forceinline__ int overlapping_pack() {
    const int warp = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
    return warp * (32 - 2 * HALO) + lane - HALO;
}

// Whether this lane is one of those that finish their pack.
template <int HALO>
__device__ __forceinline__ bool finishes() {
    const int lane = threadIdx.x % 32;
    return lane >= HALO && lane < 32 - HALO;
}

// sums.at[i] = Σ values of channels i - BEFORE … i + AFTER of the segment. Every lane calls this.
template <int BEFORE, int AFTER, typename T>
__device__ __forceinline__ Pack<T> neighbour_sums(const Pack<T>& own, int place, int length) {
    constexpr int V = Pack<T>::size;
    T run[BEFORE + V + AFTER];
#pragma unroll
    for (int j = 0; j < BEFORE; ++j) {
        constexpr int HIGH = packs_for(BEFORE, V) * V;
        const int offset = j - BEFORE;  // of the channel, from the lane's first
        const T other = __shfl_up_sync(ALL_LANES, own.at[(offset + HIGH) % V], packs_for(-offset, V));
        run[j] = place + offset >= 0 ? other : T(0);
    }
#pragma unroll
    for (int j = 0; j < V; ++j) run[BEFORE + j] = own.at[j];
#pragma unroll
    for (int j = 0; j < AFTER; ++j) {
        const T other = __shfl_down_sync(ALL_LANES, own.at[j % V], j / V + 1);
        run[BEFORE + V + j] = place + V + j < length ? other : T(0);
    }
    Pack<T> sums;
#pragma unroll
    for (int i = 0; i < V; ++i) {
        sums.at[i] = run[i];
#pragma unroll
        for (int j = 1; j <= BEFORE + AFTER; ++j) sums.at[i] += run[i + j];
    }
    return sums;
}

// d^-beta and d^(-beta - 1).
template <typename T>
struct Powers {
    T first, next;
};

// 1/√x
__device__ __forceinline__ float reciprocal_root(float x) { return ptx::quick_rsqrt(x); }
__device__ __forceinline__ double reciprocal_root(double x) { return rsqrt(x); }

// With THREE_QUARTERS beta is 3/4 and r = 1/√d: d^-3/4 = r·√r, d^-7/4 = r·√r·r², where √r is r·(1/√r):
// no IEEE root, whose last rounding would take more instructions than all the rest. In float32 a
// relative error of 2^-22.9 in each reciprocal root and four roundings leave at most 3.7·2^-23 of
// d^-3/4 and 6.9·2^-23 of d^-7/4, about as pow does. r is 2^-64 … 2^63, never subnormal; where it is 0
// or infinite (d infinite, or 0) r·(1/√r) is NaN, and r itself is the root.
template <bool THREE_QUARTERS, typename T>
__device__ __forceinline__ Powers<T> powers(T d, T beta) {
    if constexpr (THREE_QUARTERS) {
        const T r = reciprocal_root(d), root = r * reciprocal_root(r);
        const T first = r * (root == root ? root : r);
        return {first, first * (r * r)};
    } else {
        const T first = pow(d, -beta);
        return {first, first / d};
    }
}

// x + bias, and of that the positive part where `relu`; NaN stays NaN. One comparison either way: a
// bound that is chosen once for all values costs less than a condition for each.
template <typename T>
__device__ __forceinline__ T activated(T x, T bias, bool relu) {
    const T a = x + bias, least = relu ? T(0) : -gpukit::infinity<T>();
    return a < least ? least : a;
}

// What normalisation by `size` SIZE hands back to its input `values` for the gradients `slopes` of its
// output. Right for all lanes but packs_for(SIZE - 1, V) at each end of the warp; all call this.
template <int SIZE, bool THREE_QUARTERS, typename T>
__device__ __forceinline__ Pack<T> response_gradient(const Pack<T>& slopes, const Pack<T>& values,
                                                     int place, int length, T k, T alpha, T beta) {
    constexpr int V = Pack<T>::size, BEFORE = SIZE / 2, AFTER = (SIZE - 1) / 2;
    Pack<T> squares, terms, direct;
#pragma unroll
    for (int i = 0; i < V; ++i) squares.at[i] = values.at[i] * values.at[i];
    const Pack<T> sums = neighbour_sums<BEFORE, AFTER>(squares, place, length);
#pragma unroll
    for (int i = 0; i < V; ++i) {
        const Powers<T> power = powers<THREE_QUARTERS>(k + alpha * sums.at[i], beta);
        direct.at[i] = slopes.at[i] * power.first;
        terms.at[i] = slopes.at[i] * values.at[i] * power.next;
    }
    // The channels that have c for a neighbour: c - AFTER … c + BEFORE.
    const Pack<T> through = neighbour_sums<AFTER, BEFORE>(terms, place, length);
    const T factor = T(2) * alpha * beta;
#pragma unroll
    for (int i = 0; i < V; ++i) direct.at[i] -= factor * values.at[i] * through.at[i];
    return direct;
}
