// Sums and maxima over a team of threads: a warp, or a block of several warps.
//
// Inside a warp values travel by shuffles, five exchanges in which each lane meets the lane whose
// number differs in one bit:
//
//   lanes    0  1  2  3  4  5  6  7        (8 of 32)
//   xor 4    0+4  1+5  2+6  3+7  …         after the first exchange
//   xor 2    0+4+2+6  1+5+3+7  …           after the second
//   xor 1    all, in every lane            after the third
//
// A tree: float32 errs by 5 roundings, not 31, and the order never changes. All lanes end with the
// same bits, because both partners add the same two numbers and a + b = b + a.

#pragma once

struct Sum {
    template <typename T> static __device__ __forceinline__ T start(T) { return T(0); }
    template <typename T> static __device__ __forceinline__ T of(T a, T b) { return a + b; }
};

// A NaN on either side wins. `start` is any one of the values: taken twice it changes nothing, and
// no infinity is needed.
struct Max {
    template <typename T> static __device__ __forceinline__ T start(T any) { return any; }
    template <typename T> static __device__ __forceinline__ T of(T a, T b) {
        return a > b || a != a ? a : b;
    }
};

template <typename Op, typename T>
__device__ __forceinline__ T over_warp(T value) {
#pragma unroll
    for (int bit = 16; bit > 0; bit /= 2) {
        value = Op::of(value, __shfl_xor_sync(0xffffffffu, value, bit));
    }
    return value;
}

// THREADS (32, or a multiple up to 1024) threads of one team, all here; `space` is shared memory for
// one value a warp of the team, which may be used again right away.
template <typename Op, int THREADS, typename T>
__device__ __forceinline__ T over_team(T value, T* space) {
    value = over_warp<Op>(value);
    if (THREADS > 32) {
        const int warp = threadIdx.x / 32;
        if (threadIdx.x % 32 == 0) space[warp] = value;
        __syncthreads();
        value = space[0];
        for (int i = 1; i < THREADS / 32; ++i) value = Op::of(value, space[i]);
        __syncthreads();  // all have read before the next call writes
    }
    return value;
}
