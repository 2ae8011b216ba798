// What several kernels share: indices and limits.
//
// Everything compiles by NVRTC (no host headers) and, in the emulator, by g++.
#pragma once

namespace gpukit {

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

}  // namespace gpukit
