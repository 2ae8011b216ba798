// Convolution and its gradients as matrix products whose panel exists in shared memory only: tiles of
// the im2col matrix are gathered from the images straight into it, by asynchronous copies.
//
// x (N,H,W,C), w (R,S,C/G,K), y and gy (N,P,Q,K). For each group, with kk counting (tap r, s;
// channel c) with c fastest:
//
//                     rows m           columns n    k                            splits
//   forward           pixels of y      filters      (r, s, c): R·S·C/G           ranges of k
//   input gradient    pixels of x      channels     (r, s, filter): taps·K/G     ranges of k
//   weight gradient   (r, s, c)        filters      pixels of y: N·P·Q           ranges of pixels
//
// Operands, tables of taps and the phases of a strided input gradient are conv/direct.cu's
// (conv/windows.cuh); the tile is conv/implicit.cuh's. What differs from "direct":
//
//   - numbers pass no register on their way to shared memory, and an operand along k is not scattered
//     down a column by a 4-byte store a number;
//   - steps of 16 k, so half the barriers, and a whole step for a copy to land;
//   - forward and input gradient, too, are cut along k where they have few tiles. Each range goes to
//     a block of its own, which writes its part; linear.cu's split_sum adds the parts in order, with
//     bias and activation: no atomics, the same bits every run.
//
// Operations and bytes: 2·N·P·Q·K·R·S·C/G operations a pass; x, w and y pass through DRAM about once.
// Splits are worth their bytes where tiles leave the card idle: 7×7×512 to 512 filters of 3×3, one
// image, is 8 tiles of 64×64 for 132 multiprocessors, 0.23 GFLOP: with 8 tiles at work 57 µs of
// arithmetic at 67 TFLOP/s, in 17 parts 3.5 µs and 3.4 MB of parts, written and read, 1.4 µs at 4.8
// TB/s. They are worth them, too, where a last wave is nearly empty: AlexNet's conv5 (a column, batch
// 128) is 169 tiles of 128×128 for 264 places, in three parts 507 for 528. Shapes for which that
// promises a tenth come here by default; else "direct" stays the default.
//
// Before sm_80 a copy is a load that waits for its number, then a store: there nothing overlaps but
// blocks, and two stages of 128×128 (33 to 37 KB) leave one block on a multiprocessor of sm_75.
// "direct", which loads a step ahead into registers, should win there.
//
// From the compiler (NVRTC 13.5, sm_90, float32, packs): 128×128 takes 128 and 116 registers for
// forward and weight gradient, no spill; 16 k of a forward pass are 1,024 FFMA in about 1,290
// instructions, in conv/direct.cu about 1,400. 128×64 takes 168, 163 and 130, so three blocks. 64×64:
// 256 FFMA in about 440. An input gradient of 128×128 or 128×48, with both operands along k, would
// spill on sm_100 and sm_120: it has none.
//
// instances: implicit_forward<float, 128, 128, true, true, 0>
// instances: implicit_forward<float, 128, 128, true, true, 1>
// instances: implicit_forward<float, 128, 64, true, true, 1>
// instances: implicit_forward<float, 128, 48, true, true, 1>
// instances: implicit_forward<T, 64, 64, true, true, 0>, implicit_forward<T, 64, 64, false, false, 1>
// instances: implicit_forward<T, 64, 64, false, true, 2>
// instances: implicit_forward<T, 128, 16, true, true, 3>, implicit_forward<T, 128, 16, false, false, 0>
// instances: implicit_input_grad<float, 128, 64, true>
// instances: implicit_input_grad<T, 64, 64, true>
// instances: implicit_input_grad<T, 64, 64, false>, implicit_input_grad<T, 128, 16, true>
// instances: implicit_input_grad<T, 128, 16, false>
// instances: implicit_weight_grad<float, 128, 128, true, true>
// instances: implicit_weight_grad<float, 128, 64, true, true>
// instances: implicit_weight_grad<float, 128, 48, true, true>
// instances: implicit_weight_grad<T, 64, 64, true, true>
// instances: implicit_weight_grad<T, 64, 64, false, false>
// instances: implicit_weight_grad<T, 128, 16, true, true>
// instances: implicit_weight_grad<T, 128, 16, false, false>
#include "conv/implicit.cuh"
#include "conv/windows.cuh"

constexpr int STEP = 16;  // k of a step

// blockIdx.z = group · splits + split. With more than one split, y is that many parts one after
// another, `part` elements apart.
template <typename T, int TILE_M, int TILE_N, bool PACKED_X, bool PACKED_W, int ACTIVATION>
__global__ void __launch_bounds__(Tiling<TILE_M, TILE_N>::THREADS,
                                  (COPIED_BLOCKS<T, TILE_M, TILE_N, PACKED_X && PACKED_W>))
    implicit_forward(const T* __restrict__ x, const T* __restrict__ w,
                     const T* __restrict__ bias_or_null, T* __restrict__ y,
                     const __grid_constant__ Conv conv, int splits, int k_per_split,
                     long long part) {
    constexpr int EACH = Tiling<TILE_M, TILE_N>::EACH;
    __shared__ alignas(16) T a_stages[2][Stage<T, true, TILE_M, STEP>::SIZE];
    __shared__ alignas(16) T b_stages[2][Stage<T, false, TILE_N, STEP>::SIZE];
    __shared__ Tap taps[2][STEP];

    const int group = blockIdx.z / splits, split = blockIdx.z % splits;
    const int depth = conv.c / conv.groups, n = conv.k / conv.groups;
    const int pixels = conv.n * conv.p * conv.q, k = conv.r * conv.s * depth;
    const int tiles_n = (n + TILE_N - 1) / TILE_N;
    const int first_m = blockIdx.x / tiles_n * TILE_M, first_n = blockIdx.x % tiles_n * TILE_N;
    const int k_begin = split * k_per_split, k_end = k_begin + min(k - k_begin, k_per_split);

    const Windows<T, STEP, PACKED_X> windows{
        x + group * depth, conv.h,     conv.w,        conv.c,        conv.n, conv.p, conv.q,
        -conv.top,         -conv.left, conv.stride_h, conv.stride_w, taps};
    const Taps<STEP> table{taps,   depth, conv.r, conv.s, conv.dilation_h, conv.dilation_w, conv.w,
                           conv.c, 0,     0,      0};
    const Matrix<T, false, PACKED_W> weights{w + group * n, n, k_end, conv.k};
    T sums[EACH][EACH];
    multiply_copied<TILE_M, TILE_N, STEP>(windows, weights, table, first_m, first_n, k_begin,
                                          k_end, a_stages, b_stages, x, w, sums);

    T* const out = y + split * part + group * n;
    const auto row_of = [=](int i) {
        return i < pixels ? out + static_cast<long long>(i) * conv.k : nullptr;
    };
    const T* const bias = bias_or_null == nullptr ? nullptr : bias_or_null + group * n;
    write_tile<TILE_M, TILE_N, ACTIVATION>(sums, row_of, first_m, first_n, n, bias);
}

// blockIdx.z = (group · phases + phase) · splits + split. Tiles beyond a phase's pixels end at once.
// Phases have taps of their own, so each cuts its own k into `splits` ranges; gx is as y above.
template <typename T, int TILE_M, int TILE_N, bool PACKED>
__global__ void __launch_bounds__(Tiling<TILE_M, TILE_N>::THREADS,
                                  (sizeof(T) == 4 && TILE_N == 16 && PACKED
                                       ? 5
                                       : COPIED_BLOCKS<T, TILE_M, TILE_N, PACKED>))
    implicit_input_grad(const T* __restrict__ gy, const T* __restrict__ w, T* __restrict__ gx,
                        const __grid_constant__ Conv conv, int splits, long long part) {
    constexpr int EACH = Tiling<TILE_M, TILE_N>::EACH;
    __shared__ alignas(16) T a_stages[2][Stage<T, true, TILE_M, STEP>::SIZE];
    __shared__ alignas(16) T b_stages[2][Stage<T, true, TILE_N, STEP>::SIZE];
    __shared__ Tap taps[2][STEP];

    const int split = blockIdx.z % splits, place = blockIdx.z / splits;
    const int phases = conv.stride_h * conv.stride_w, phase = place % phases,
              group = place / phases;
    const Phase down =
        phase_of(phase / conv.stride_w, conv.h, conv.r, conv.stride_h, conv.top, conv.dilation_h);
    const Phase right =
        phase_of(phase % conv.stride_w, conv.w, conv.s, conv.stride_w, conv.left, conv.dilation_w);
    const int depth = conv.k / conv.groups, n = conv.c / conv.groups;
    const int m = conv.n * down.count * right.count, k = down.taps * right.taps * depth;
    const int tiles_n = (n + TILE_N - 1) / TILE_N;
    const int first_m = blockIdx.x / tiles_n * TILE_M, first_n = blockIdx.x % tiles_n * TILE_N;
    if (first_m >= m) return;
    const int steps = (k + STEP - 1) / STEP, k_per_split = (steps + splits - 1) / splits * STEP;
    const int k_begin = split * k_per_split, k_end = min(k, k_begin + k_per_split);

    const Windows<T, STEP, PACKED> windows{
        gy + group * depth, conv.p,      conv.q,       conv.k, conv.n, down.count,
        right.count,        down.corner, right.corner, 1,      1,      taps};
    const int weight = n * conv.k;  // elements of one tap
    const Taps<STEP> table{taps,
                           depth,
                           down.taps,
                           right.taps,
                           -down.fall,
                           -right.fall,
                           conv.q,
                           conv.k,
                           (down.tap * conv.s + right.tap) * weight,
                           down.step * conv.s * weight,
                           right.step * weight};
    const WeightsByChannel<T, STEP, PACKED> weights{w + group * depth, n, conv.k, taps};
    T sums[EACH][EACH];
    multiply_copied<TILE_M, TILE_N, STEP>(windows, weights, table, first_m, first_n, k_begin,
                                          k_end, a_stages, b_stages, gy, w, sums);

    T* const out = gx + split * part + group * n;
    const auto row_of = [=](int i) -> T* {
        if (i >= m) return nullptr;
        const int line = i / right.count, column = right.first + i % right.count * conv.stride_w;
        const int row = down.first + line % down.count * conv.stride_h, image = line / down.count;
        const long long pixel = (static_cast<long long>(image) * conv.h + row) * conv.w + column;
        return out + pixel * conv.c;
    };
    write_tile<TILE_M, TILE_N, NO_ACTIVATION>(sums, row_of, first_m, first_n, n,
                                              static_cast<const T*>(nullptr));
}

// blockIdx.z = group · splits + split; `parts` holds `splits` weight gradients one after another.
template <typename T, int TILE_M, int TILE_N, bool PACKED_X, bool PACKED_GY>
__global__ void __launch_bounds__(Tiling<TILE_M, TILE_N>::THREADS,
                                  (sizeof(T) == 4 && TILE_N == 16 ? 6 : 2))
    implicit_weight_grad(const T* __restrict__ x, const T* __restrict__ gy, T* __restrict__ parts,
                         const __grid_constant__ Conv conv, int splits, int k_per_split) {
    constexpr int EACH = Tiling<TILE_M, TILE_N>::EACH;
    __shared__ alignas(16) T a_stages[2][Stage<T, false, TILE_M, STEP>::SIZE];
    __shared__ alignas(16) T b_stages[2][Stage<T, false, TILE_N, STEP>::SIZE];
    __shared__ Pixel pixels[2][STEP];

    const int group = blockIdx.z / splits, split = blockIdx.z % splits;
    const int depth = conv.c / conv.groups, n = conv.k / conv.groups, m = conv.r * conv.s * depth;
    const int tiles_n = (n + TILE_N - 1) / TILE_N;
    const int first_m = blockIdx.x / tiles_n * TILE_M, first_n = blockIdx.x % tiles_n * TILE_N;
    const int k_begin = split * k_per_split;
    const int k_end = k_begin + min(conv.n * conv.p * conv.q - k_begin, k_per_split);

    const Pixels<STEP> table{pixels, k_end, conv};
    const WindowsAcross<T, STEP, PACKED_X> windows{x + group * depth, depth, conv, pixels};
    const Matrix<T, false, PACKED_GY> gradients{gy + group * n, n, k_end, conv.k};
    T sums[EACH][EACH];
    multiply_copied<TILE_M, TILE_N, STEP>(windows, gradients, table, first_m, first_n, k_begin,
                                          k_end, a_stages, b_stages, x, gy, sums);

    T* const out = parts + static_cast<long long>(split) * m * conv.k + group * n;
    const auto row_of = [=](int i) {
        return i < m ? out + static_cast<long long>(i) * conv.k : nullptr;
    };
    write_tile<TILE_M, TILE_N, NO_ACTIVATION>(sums, row_of, first_m, first_n, n,
                                              static_cast<const T*>(nullptr));
}
