// What CUDA C offers and the emulator must mean by it: tests compare each with its definition.
#include "gpukit.cuh"
#include "ptx.cuh"
#include "team.cuh"

// instances: sums<T>, product_16bit<true>, product_16bit<false>

template <typename T> __global__ void sums(const T* __restrict__ x, T* __restrict__ y, int n) {
    __shared__ T scratch[32];
    T sum = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) sum += x[i];
    sum = over_team<Sum, 256>(sum, scratch);
    y[threadIdx.x] = sum;
}

// Rows: __shfl_sync, up, down, xor within `width` lanes.
__global__ void shuffles(const int* __restrict__ x, int* __restrict__ y, int argument, int width) {
    const int lane = threadIdx.x, v = x[lane];
    y[lane] = __shfl_sync(0xffffffffu, v, argument, width);
    y[32 + lane] = __shfl_up_sync(0xffffffffu, v, argument, width);
    y[64 + lane] = __shfl_down_sync(0xffffffffu, v, argument, width);
    y[96 + lane] = __shfl_xor_sync(0xffffffffu, v, argument, width);
}

__global__ void votes(const int* __restrict__ x, unsigned* __restrict__ y) {
    const int v = x[threadIdx.x];
    const unsigned ballot = __ballot_sync(0xffffffffu, v);
    const int any = __any_sync(0xffffffffu, v), all = __all_sync(0xffffffffu, v);
    const int count = __syncthreads_count(v), each = __syncthreads_and(v), some = __syncthreads_or(v);
    if (threadIdx.x % 32 == 0) {
        unsigned* mine = y + threadIdx.x / 32 * 6;
        mine[0] = ballot; mine[1] = any; mine[2] = all; mine[3] = count; mine[4] = each; mine[5] = some;
    }
}

__global__ void atomics(const int* __restrict__ x, int* __restrict__ y, double* __restrict__ sum,
                        unsigned long long* __restrict__ big, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    atomicAdd(y, x[i]);
    atomicMax(y + 1, x[i]);
    atomicMin(y + 2, x[i]);
    atomicCAS(y + 3, 0, 7);
    atomicAdd(sum, (double)x[i]);
    atomicAdd(big, 1ull << 33);
}

// y[linear index] = coordinates packed, from all three dimensions of grid and block.
__global__ void positions(int* __restrict__ y) {
    extern __shared__ int s[];
    const int t = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    const int b = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    s[t] = t;
    __syncthreads();
    y[b * (int)(blockDim.x * blockDim.y * blockDim.z) + t] = 1000 * b + s[t];
}

__global__ void round_tf32(const float* __restrict__ x, float* __restrict__ y) {
    y[threadIdx.x] = ptx::to_tf32(x[threadIdx.x]);
}

// Row-major tiles: c (16, 8) = a (16, 8) b (8, 8).
__global__ void product_tf32(const float* __restrict__ a, const float* __restrict__ b,
                             float* __restrict__ c) {
    const int g = threadIdx.x / 4, t = threadIdx.x % 4;
    const float fa[4] = {a[8 * g + t], a[8 * (g + 8) + t], a[8 * g + t + 4], a[8 * (g + 8) + t + 4]};
    const float fb[2] = {b[8 * t + g], b[8 * (t + 4) + g]};
    float fc[4] = {};
    ptx::mma_tf32(fc, fa, fb);
    c[8 * g + 2 * t] = fc[0];
    c[8 * g + 2 * t + 1] = fc[1];
    c[8 * (g + 8) + 2 * t] = fc[2];
    c[8 * (g + 8) + 2 * t + 1] = fc[3];
}

// c (16, 8) = a (16, 16) b (16, 8) in half (or bfloat16), fragments by ldmatrix.
template <bool HALF>
__global__ void product_16bit(const unsigned short* __restrict__ a,
                              const unsigned short* __restrict__ b, float* __restrict__ c) {
    __shared__ __align__(16) unsigned short sa[16][16], sb[16][8];
    const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
    ptx::copy_async<16>(&sa[lane / 2][lane % 2 * 8], a + 8 * lane);
    if (lane < 16) ptx::copy_async<16>(&sb[lane][0], b + 8 * lane);
    ptx::copy_commit();
    ptx::copy_wait<0>();
    __syncthreads();
    unsigned fa[4], fb[4];
    ptx::load_matrix<false>(fa, &sa[lane % 16][lane / 16 * 8]);
    ptx::load_matrix<true>(fb, &sb[lane % 16][0]);
    const unsigned pair[2] = {fb[0], fb[1]};
    float fc[4] = {};
    if (HALF) ptx::mma_f16(fc, fa, pair);
    else ptx::mma_bf16(fc, fa, pair);
    c[8 * g + 2 * t] = fc[0];
    c[8 * g + 2 * t + 1] = fc[1];
    c[8 * (g + 8) + 2 * t] = fc[2];
    c[8 * (g + 8) + 2 * t + 1] = fc[3];
}

__global__ void checked(const float* __restrict__ x, float* __restrict__ y_or_null, bool on) {
    assert(x[threadIdx.x] >= 0);
    if (on && y_or_null) y_or_null[threadIdx.x] = x[threadIdx.x];
}
