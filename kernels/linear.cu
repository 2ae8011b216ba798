// c = φ(op(a)·op(b) + bias) for row-major matrices of any size, and batches of them.
//
//   a is (m, k) with rows lda apart, or (k, m) where TRANSPOSE_A; b is (k, n) or (n, k).
//   dense         forward  x·w           input gradient  gy·wᵀ        weight gradient  xᵀ·gy
//   convolution   the same three with im2col's panel for x, see conv/im2col.cu
//
// Which block does what:
//
//   blockIdx.x = tile of m · tiles of n + tile of n      (n fastest: neighbours share rows of a in L2)
//   blockIdx.z = batch · splits + split                  (a batch is a group of a convolution)
//
// Operations and bytes. 2·m·n·k operations; a tile reads (TILE_M + TILE_N)·k numbers for
// 2·TILE_M·TILE_N·k operations: 32 operations a byte from L2 at 128×128 in float32, 16 at 64×64, 7
// at 128×16. Each element comes from DRAM about once where a wave of tiles fits L2. On an H200 (67
// TFLOP/s float32, 4.8 TB/s: 14 operations a byte) a product is bound by arithmetic from m, n of
// some hundreds on, and the floor of fc6 of AlexNet (128×4096×9216, 9.7 GFLOP, 158 MB) is 144 µs
// by arithmetic, 33 µs by bytes.
//
// Why these tiles. 128×128 with 8×8 sums a thread does 64 multiply-adds for 16 words from shared
// memory, the ratio at which SIMT kernels are bound by arithmetic; it needs 132 tiles to fill that
// card. 128×64 and 128×48 have the same ratio in blocks of 128 and 96 threads: twice as many tiles, and
// none of their columns idle where n is 192, 96 or 48; but they do 43 and 35 multiply-adds for a number
// from L2, where 128×128 does 64. 64×64 makes smaller tiles still, with 16 multiply-adds for 8
// words; 128×16 wastes less where n is a dozen filters.
//
// Splits. A weight gradient has a small result and a long k: one tile for 400 000 pixels would
// leave the card idle, and a float32 running sum would lose digits. So k is cut into `splits`
// ranges, each block writes its part of the sum to a workspace, and split_sum adds the parts in
// order: no atomics, the same bits every run. Tile and splits are chosen together, so that blocks come
// in whole waves of a card of 132 multiprocessors (gpukit/backends/cuda/runtime/tiling.py): from shape, dtype
// and alignment alone, so they are the same on every card.
//
// Packs. Where rows of an operand begin at multiples of 16 bytes and end at one (or in zeros, as
// im2col's panels do), PACKED_A or PACKED_B brings 16 bytes a load; else one number.
//
// From the compiler (NVRTC 13.5, sm_90, float32, packs): 128×128 takes 122 registers, no spill, so two
// blocks share a multiprocessor; a step of 8 k is 512 FFMA in about 630 instructions, with 32 LDS.128,
// 2 LDG.E.128 and one barrier. 128×64 takes 124, so four blocks of half as many threads; 128×48 takes
// 148, four blocks. 64×64 takes 79 registers, so three blocks; a step of 16 k is 256 FFMA in 324.

// instances: gemm<float, 128, 128, false, false, true, true, 0>
// instances: gemm<float, 128, 128, false, false, true, true, 1>
// instances: gemm<float, 128, 128, false, true, true, true, 0>
// instances: gemm<float, 128, 128, true, false, true, true, 0>
// instances: gemm<float, 128, 64, false, false, true, true, 0>
// instances: gemm<float, 128, 64, false, true, true, true, 0>
// instances: gemm<float, 128, 64, true, false, true, true, 0>
// instances: gemm<float, 128, 48, false, false, true, true, 0>
// instances: gemm<float, 128, 48, false, true, true, true, 0>
// instances: gemm<float, 128, 48, true, false, true, true, 0>
// instances: gemm<T, 64, 64, false, false, true, true, 0>, gemm<T, 64, 64, false, false, false, false, 1>
// instances: gemm<T, 64, 64, false, false, true, true, 2>, gemm<T, 64, 64, false, false, true, true, 3>
// instances: gemm<T, 64, 64, false, true, true, true, 0>, gemm<T, 64, 64, false, true, false, false, 0>
// instances: gemm<T, 64, 64, true, false, true, true, 0>, gemm<T, 64, 64, true, false, false, false, 0>
// instances: gemm<T, 128, 16, false, false, true, false, 3>
// instances: gemm<T, 128, 16, false, false, false, false, 3>
// instances: gemm<T, 128, 16, false, true, true, true, 0>
// instances: gemm<T, 128, 16, true, false, true, true, 0>
// instances: split_sum<T, 0>, split_sum<T, 1>, split_sum<T, 2>, split_sum<T, 3>

#include "gemm_tile.cuh"

template <typename T, int TILE_M, int TILE_N, bool TRANSPOSE_A, bool TRANSPOSE_B, bool PACKED_A,
          bool PACKED_B, int ACTIVATION>
__global__ void __launch_bounds__(Tiling<TILE_M, TILE_N>::THREADS,
                                  (BLOCKS<T, TILE_M, TILE_N, PACKED_A && PACKED_B>))
    gemm(const T* __restrict__ a, const T* __restrict__ b, const T* __restrict__ bias_or_null,
         T* __restrict__ c, int m, int n, int k, int lda, int ldb, int ldc, long long batch_a,
         long long batch_b, long long batch_c, int batch_bias, int splits, int k_per_split,
         long long split_c) {
    constexpr int EACH = Tiling<TILE_M, TILE_N>::EACH, K = Tiling<TILE_M, TILE_N>::K;
    using Left = Matrix<T, !TRANSPOSE_A, PACKED_A>;
    using Right = Matrix<T, TRANSPOSE_B, PACKED_B>;
    __shared__ alignas(16) T a_stages[2][Lines<T, Left, TILE_M, K>::at(K)];
    __shared__ alignas(16) T b_stages[2][Lines<T, Right, TILE_N, K>::at(K)];

    const int tiles_n = (n + TILE_N - 1) / TILE_N;
    const int first_m = blockIdx.x / tiles_n * TILE_M, first_n = blockIdx.x % tiles_n * TILE_N;
    const int batch = blockIdx.z / splits, split = blockIdx.z % splits;
    const int k_begin = split * k_per_split, k_end = min(k - k_begin, k_per_split) + k_begin;

    const Left left{a + batch * batch_a, m, k_end, lda};
    const Right right{b + batch * batch_b, n, k_end, ldb};
    T sums[EACH][EACH];
    multiply_tile<TILE_M, TILE_N>(left, right, NoTable{}, first_m, first_n, k_begin, k_end,
                                  a_stages, b_stages, sums);

    T* const out = c + batch * batch_c + split * split_c;
    const auto row_of = [=](int i) {
        return i < m ? out + static_cast<long long>(i) * ldc : nullptr;
    };
    const T* const bias = bias_or_null == nullptr ? nullptr : bias_or_null + batch * batch_bias;
    write_tile<TILE_M, TILE_N, ACTIVATION>(sums, row_of, first_m, first_n, n, bias);
}

// out[i] = φ(bias[i mod columns] + [out[i] +] Σ parts[s·size + i]), s in order. One thread an
// element. (splits + 1)·size numbers pass through memory, nothing else takes time.
template <typename T, int ACTIVATION>
__global__ void __launch_bounds__(256)
    split_sum(const T* __restrict__ parts, const T* __restrict__ bias_or_null, T* __restrict__ out,
              long long size, int columns, int splits, bool accumulate) {
    const long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= size) return;
    T sum = accumulate ? out[i] : T(0);
#pragma unroll 4
    for (int s = 0; s < splits; ++s) sum += parts[s * size + i];
    if (bias_or_null != nullptr) sum += bias_or_null[i % columns];
    out[i] = activate<ACTIVATION>(sum);
}
