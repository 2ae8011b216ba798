// What several kernels share: indices, limits, sums over a warp and a block, Philox.
//
// Everything compiles by NVRTC (no host headers) and, in the emulator, by g++.
#pragma once

namespace gpukit {

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

// Number of this thread in a one-dimensional grid, and the step to its next element in a
// grid-stride loop: for (long long i = thread_number(); i < n; i += thread_count()).
__device__ __forceinline__ long long thread_number() {
    return (long long)blockIdx.x * blockDim.x + threadIdx.x;
}

__device__ __forceinline__ long long thread_count() {
    return (long long)gridDim.x * blockDim.x;
}

__host__ __device__ constexpr int divide_up(int a, int b) {
    return (a + b - 1) / b;
}

// Limits of float and double; NVRTC has no INFINITY.
template <typename T> __device__ __forceinline__ T infinity();
template <> __device__ __forceinline__ float infinity<float>() {
    return __int_as_float(0x7f800000);
}
template <> __device__ __forceinline__ double infinity<double>() {
    return __longlong_as_double(0x7ff0000000000000LL);
}

// The larger value, NaN if either is NaN, as in np.maximum (fmaxf would drop the NaN).
template <typename T> __device__ __forceinline__ T maximum(T a, T b) {
    return (a > b || a != a) ? a : b;
}

template <typename T> __device__ __forceinline__ T minimum(T a, T b) {
    return (a < b || a != a) ? a : b;
}

// Sum and maximum over the 32 lanes of a warp, the same bits in every lane: partners are exchanged
// at distances 16, 8, 4, 2, 1, and a + b is the same number as b + a.
template <typename T> __device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2)
        value += __shfl_xor_sync(ALL_LANES, value, distance);
    return value;
}

template <typename T> __device__ __forceinline__ T warp_maximum(T value) {
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2)
        value = maximum(value, __shfl_xor_sync(ALL_LANES, value, distance));
    return value;
}

// Sum and maximum over a block of blockDim.x threads (one-dimensional, whole warps), given to every
// thread. `scratch` holds one value a warp, 32 at most, in shared memory; it may be used again at
// once, because the last barrier stands after the last read.
template <typename T> __device__ __forceinline__ T block_sum(T value, T* scratch) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    value = warp_sum(value);
    if (lane == 0) scratch[warp] = value;
    __syncthreads();
    T total = scratch[0];
    for (int i = 1; i < (int)blockDim.x / WARP; ++i) total += scratch[i];
    __syncthreads();
    return total;
}

template <typename T> __device__ __forceinline__ T block_maximum(T value, T* scratch) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    value = warp_maximum(value);
    if (lane == 0) scratch[warp] = value;
    __syncthreads();
    T largest = scratch[0];
    for (int i = 1; i < (int)blockDim.x / WARP; ++i) largest = maximum(largest, scratch[i]);
    __syncthreads();
    return largest;
}

// Philox4x32-10 (Salmon and others, "Parallel random numbers: as easy as 1, 2, 3", 2011): four
// random words as a function of a 128-bit counter and a 64-bit key.
struct Words {
    unsigned word[4];
};

__device__ __forceinline__ Words philox(Words counter, unsigned key0, unsigned key1) {
    unsigned a = counter.word[0], b = counter.word[1], c = counter.word[2], d = counter.word[3];
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const unsigned high0 = __umulhi(0xD2511F53u, a), low0 = 0xD2511F53u * a;
        const unsigned high1 = __umulhi(0xCD9E8D57u, c), low1 = 0xCD9E8D57u * c;
        a = high1 ^ b ^ key0;
        b = low1;
        c = high0 ^ d ^ key1;
        d = low0;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return {{a, b, c, d}};
}

}  // namespace gpukit
