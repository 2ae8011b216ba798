// One tiny kernel for each piece of inline PTX in ptx.cuh, so that a card can confirm its stand-in:
// see confirm_standins.py. A block of one warp each; data are laid out as matrices, row by row, and
// packed here into fragments by the table in ptx.cuh. A wrong table gives a wrong product.
//
// instances: copy_bytes<4>, copy_bytes<8>, copy_bytes<16>, load_matrices<false>, load_matrices<true>
// instances sm_80: round_tf32, product_tf32, product_16<false>, product_16<true>
#include "gpukit.cuh"
#include "ptx.cuh"

// y: 32 chunks of BYTES, chunk i copied by thread i as far as given[i] bytes, zeros after.
template <int BYTES>
__global__ void copy_bytes(const unsigned* __restrict__ x, const unsigned* __restrict__ given,
                           unsigned* __restrict__ y) {
    constexpr int WORDS = BYTES / 4;
    __shared__ __align__(16) unsigned tile[32 * WORDS];
    const int lane = threadIdx.x;
    ptx::copy_async<BYTES>(tile + WORDS * lane, x + WORDS * lane, given[lane]);
    ptx::copy_commit();
    ptx::copy_wait<0>();
    __syncthreads();
    for (int i = lane; i < 32 * WORDS; i += 32) y[i] = tile[i];
}

// y: the first 32 values once one group may still be on its way, the next 32 once none may.
__global__ void copy_groups(const unsigned* __restrict__ x, unsigned* __restrict__ y) {
    __shared__ __align__(16) unsigned tile[64];
    const int lane = threadIdx.x;
    ptx::copy_async<4>(tile + lane, x + lane);
    ptx::copy_commit();
    ptx::copy_async<4>(tile + 32 + lane, x + 32 + lane);
    ptx::copy_commit();
    ptx::copy_wait<1>();
    __syncthreads();
    y[lane] = tile[31 - lane];
    ptx::copy_wait<0>();
    __syncthreads();
    y[32 + lane] = tile[63 - lane];
}

// y: what each lane gets of four 8×8 matrices of 16-bit elements, x (4, 8, 8).
template <bool TRANSPOSED>
__global__ void load_matrices(const unsigned short* __restrict__ x, unsigned* __restrict__ y) {
    __shared__ __align__(16) unsigned short tile[256];
    const int lane = threadIdx.x;
    for (int i = lane; i < 256; i += 32) tile[i] = x[i];
    __syncthreads();
    unsigned d[4];
    ptx::load_matrix<TRANSPOSED>(d, tile + 8 * lane);
    for (int i = 0; i < 4; ++i) y[4 * lane + i] = d[i];
}

__global__ void reciprocal_root(const float* __restrict__ x, float* __restrict__ y, int n) {
    for (int i = threadIdx.x; i < n; i += 32) y[i] = ptx::quick_rsqrt(x[i]);
}

#if defined(GPUKIT_EMULATOR) || __CUDA_ARCH__ >= 800

__global__ void round_tf32(const float* __restrict__ x, float* __restrict__ y, int n) {
    for (int i = threadIdx.x; i < n; i += 32) y[i] = ptx::to_tf32(x[i]);
}

__device__ __forceinline__ void load_c(float (&c)[4], const float* from, int g, int t) {
    for (int i = 0; i < 4; ++i) c[i] = from[8 * (g + 8 * (i / 2)) + 2 * t + i % 2];
}

__device__ __forceinline__ void store_c(float* to, const float (&c)[4], int g, int t) {
    for (int i = 0; i < 4; ++i) to[8 * (g + 8 * (i / 2)) + 2 * t + i % 2] = c[i];
}

// y (16, 8) = c + a (16, 8) b (8, 8)
__global__ void product_tf32(const float* __restrict__ a, const float* __restrict__ b,
                             const float* __restrict__ c, float* __restrict__ y) {
    const int g = threadIdx.x / 4, t = threadIdx.x % 4;
    const float fa[4] = {a[8 * g + t], a[8 * (g + 8) + t], a[8 * g + t + 4], a[8 * (g + 8) + t + 4]};
    const float fb[2] = {b[8 * t + g], b[8 * (t + 4) + g]};
    float fc[4];
    load_c(fc, c, g, t);
    ptx::mma_tf32(fc, fa, fb);
    store_c(y, fc, g, t);
}

__device__ __forceinline__ unsigned pair(unsigned low, unsigned high) { return low | high << 16; }

// y (16, 8) = c + a (16, 16) b (16, 8); a and b hold the bits of bfloat16 or half.
template <bool BFLOAT>
__global__ void product_16(const unsigned short* __restrict__ a,
                           const unsigned short* __restrict__ b, const float* __restrict__ c,
                           float* __restrict__ y) {
    const int g = threadIdx.x / 4, t = threadIdx.x % 4;
    unsigned fa[4], fb[2];
    for (int i = 0; i < 4; ++i) {
        const int at = 16 * (g + 8 * (i % 2)) + 2 * t + 8 * (i / 2);
        fa[i] = pair(a[at], a[at + 1]);
    }
    for (int i = 0; i < 2; ++i) {
        const int k = 2 * t + 8 * i;
        fb[i] = pair(b[8 * k + g], b[8 * (k + 1) + g]);
    }
    float fc[4];
    load_c(fc, c, g, t);
    if constexpr (BFLOAT)
        ptx::mma_bf16(fc, fa, fb);
    else
        ptx::mma_f16(fc, fa, fb);
    store_c(y, fc, g, t);
}

#endif
