// Kernels whose threads get in each other's way, and the same with the order that they need.
#include "ptx.cuh"

// instances: missing_barrier_before<true>, missing_barrier_before<false>
// instances: missing_barrier_after<true>, missing_barrier_after<false>
// instances: missing_syncwarp<true>, missing_syncwarp<false>
// instances: non_atomic<true>, non_atomic<false>, missing_wait<true>, missing_wait<false>

// Reversed through shared memory: read before the other thread has written.
template <bool BUG>
__global__ void missing_barrier_before(const float* __restrict__ x, float* __restrict__ y) {
    __shared__ float tile[128];
    tile[threadIdx.x] = x[threadIdx.x];
    if (!BUG) __syncthreads();
    y[threadIdx.x] = tile[127 - threadIdx.x];
}

// The next round's values written while others still read this round's.
template <bool BUG>
__global__ void missing_barrier_after(const float* __restrict__ x, float* __restrict__ y, int rounds) {
    __shared__ float tile[128];
    float sum = 0;
    for (int round = 0; round < rounds; ++round) {
        tile[threadIdx.x] = x[128 * round + threadIdx.x];
        __syncthreads();
        sum += tile[127 - threadIdx.x];
        if (!BUG) __syncthreads();
    }
    y[threadIdx.x] = sum;
}

// A sum over a warp in shared memory, on the belief that its lanes keep step by themselves.
template <bool BUG>
__global__ void missing_syncwarp(const float* __restrict__ x, float* __restrict__ y) {
    __shared__ float tile[32];
    const int lane = threadIdx.x;
    tile[lane] = x[lane];
    for (int distance = 16; distance > 0; distance /= 2) {
        if (!BUG) __syncwarp();
        const float other = lane < distance ? tile[lane + distance] : 0.0f;
        if (!BUG) __syncwarp();
        if (lane < distance) tile[lane] += other;
    }
    if (lane == 0) y[0] = tile[0];
}

// Counts positive values: read, add, write by many threads at once.
template <bool BUG>
__global__ void non_atomic(const float* __restrict__ x, int* __restrict__ count, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n || !(x[i] > 0)) return;
    if (BUG) *count += 1;
    else atomicAdd(count, 1);
}

// Copies that are under way are read without waiting for them.
template <bool BUG>
__global__ void missing_wait(const float* __restrict__ x, float* __restrict__ y) {
    __shared__ __align__(16) float tile[128];
    ptx::copy_async<4>(tile + threadIdx.x, x + threadIdx.x);
    ptx::copy_commit();
    if (!BUG) ptx::copy_wait<0>();
    __syncthreads();
    y[threadIdx.x] = tile[127 - threadIdx.x];
}
