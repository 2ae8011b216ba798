// Convolution and its gradients straight from the images: tiles of a matrix product whose left
// operand is read through the sliding windows (implicit GEMM). No panel is written, no workspace is
// needed but for the parts of a weight gradient.
//
// x (N,H,W,C), w (R,S,C/G,K), y and gy (N,P,Q,K). For each group, with kk counting (tap r, s;
// channel c) with c fastest:
//
//                     rows m           columns n    k                            split
//   forward           pixels of y      filters      (r, s, c): R·S·C/G           -
//   input gradient    pixels of x      channels     (r, s, filter): taps·K/G     -
//   weight gradient   (r, s, c)        filters      pixels of y: N·P·Q           ranges of pixels
//
// Index drawing (forward, one image row; stride 2, padding 1, dilation 1, S = 3):
//
//   w of x      -1   0   1   2   3   4 …        pixel q begins at  w0 = q·stride - padding
//   q = 0      [ s0  s1  s2]                    tap s adds         s·dilation
//   q = 1               [ s0  s1  s2]           element            ((h0+dh)·W + w0+dw)·C + c
//
//   A pixel's (h0, w0) is worked out once by the thread that reads its row, before the loop. A tap's
//   (dh, dw, dh·W·C + dw·C + c) is worked out once a step by one thread for the whole block, into a
//   small table in shared memory, a step ahead; so no thread divides inside the loop, and a load
//   costs two comparisons, one addition and, where channels come in packs, one LDG.E.128.
//
// The input gradient is a forward pass again. From h + padding = p·stride + r·dilation: pixels h with
// the same phase (h + padding) mod stride are reached by the same taps r = r0, r0 + step, …, with
// step = stride / gcd(stride, dilation), and along these p falls by dilation / gcd. Blocks work on
// one phase (rows × columns: stride² of them), so no product with a zero is computed, and a phase
// that no tap reaches, with stride beyond the kernel, writes zeros.
//
// The weight gradient sums over all pixels. Ranges of pixels go to different blocks, each writes
// its part, linear.cu's split_sum adds the parts in order: no atomics, the same bits every run.
//
// Operations and bytes: 2·N·P·Q·K·R·S·C/G operations in each of the three passes. Through L2 a tile
// reads what a GEMM's would; from DRAM x, w and y pass about once, because the R·S windows over a
// pixel are read by neighbouring blocks at the same time. AlexNet's conv2 (batch 128, 57 GFLOP, 133
// MB): floor on an H200 856 µs by arithmetic, 28 µs by bytes. im2col writes and reads a panel of 896
// MB besides, 373 µs more: that is why this way is the default.
//
// Tiles are gemm_tile.cuh's: 128×128, 128×64 and 128×48 (float32 in packs), 64×64, 128×16 for few
// filters; which one is counted, see linear.cu. With up to 4 filters a group even that is mostly
// empty: conv/direct_narrow.cu. From the compiler (NVRTC 13.5, sm_90, float32, packs), 128×128: 126,
// 128 and 123 registers for forward, input and weight gradient, no spill; 128×64: 127, 126 and 122,
// so four blocks; 128×48: 147, 159 and 147. A forward step is 512 FFMA in about 700 instructions,
// linear.cu's in 630: that is what reading through windows costs.
//
// instances: conv2d_forward<float, 128, 128, true, true, 0>
// instances: conv2d_forward<float, 128, 128, true, true, 1>
// instances: conv2d_forward<float, 128, 64, true, true, 1>
// instances: conv2d_forward<float, 128, 48, true, true, 1>
// instances: conv2d_forward<T, 64, 64, true, true, 0>, conv2d_forward<T, 64, 64, false, false, 1>
// instances: conv2d_forward<T, 64, 64, true, true, 2>, conv2d_forward<T, 64, 64, true, true, 3>
// instances: conv2d_forward<T, 128, 16, false, false, 3>
// instances: conv2d_forward<T, 128, 16, true, true, 0>
// instances: conv2d_input_grad<float, 128, 64, true>, conv2d_input_grad<float, 128, 48, true>
// instances: conv2d_input_grad<float, 128, 128, true>, conv2d_input_grad<T, 64, 64, true>
// instances: conv2d_input_grad<T, 64, 64, false>, conv2d_input_grad<T, 128, 16, true>
// instances: conv2d_input_grad<T, 128, 16, false>
// instances: conv2d_weight_grad<float, 128, 128, true, true>
// instances: conv2d_weight_grad<float, 128, 64, true, true>
// instances: conv2d_weight_grad<float, 128, 48, true, true>
// instances: conv2d_weight_grad<T, 64, 64, true, true>
// instances: conv2d_weight_grad<T, 64, 64, false, false>
// instances: conv2d_weight_grad<T, 128, 16, true, true>
// instances: conv2d_weight_grad<T, 128, 16, false, false>
#include "conv/windows.cuh"

template <typename T, int TILE_M, int TILE_N, bool PACKED_X, bool PACKED_W, int ACTIVATION>
__global__ void __launch_bounds__(Tiling<TILE_M, TILE_N>::THREADS,
                                  (BLOCKS<T, TILE_M, TILE_N, PACKED_X && PACKED_W>))
    conv2d_forward(const T* __restrict__ x, const T* __restrict__ w,
                   const T* __restrict__ bias_or_null, T* __restrict__ y,
                   const __grid_constant__ Conv conv) {
    constexpr int EACH = Tiling<TILE_M, TILE_N>::EACH, K = Tiling<TILE_M, TILE_N>::K;
    using Left = Windows<T, K, PACKED_X>;
    using Right = Matrix<T, false, PACKED_W>;
    __shared__ alignas(16) T a_stages[2][Lines<T, Left, TILE_M, K>::at(K)];
    __shared__ alignas(16) T b_stages[2][Lines<T, Right, TILE_N, K>::at(K)];
    __shared__ Tap taps[2][K];

    const int group = blockIdx.z, depth = conv.c / conv.groups, n = conv.k / conv.groups;
    const int pixels = conv.n * conv.p * conv.q, k = conv.r * conv.s * depth;
    const int tiles_n = (n + TILE_N - 1) / TILE_N;
    const int first_m = blockIdx.x / tiles_n * TILE_M, first_n = blockIdx.x % tiles_n * TILE_N;

    const Left windows{
        x + group * depth, conv.h,     conv.w,        conv.c,        conv.n, conv.p, conv.q,
        -conv.top,         -conv.left, conv.stride_h, conv.stride_w, taps};
    const Taps<K> table{taps,   depth, conv.r, conv.s, conv.dilation_h, conv.dilation_w, conv.w,
                        conv.c, 0,     0,      0};
    const Right weights{w + group * n, n, k, conv.k};
    T sums[EACH][EACH];
    multiply_tile<TILE_M, TILE_N>(windows, weights, table, first_m, first_n, 0, k, a_stages,
                                  b_stages, sums);

    const auto row_of = [=](int i) {
        return i < pixels ? y + static_cast<long long>(i) * conv.k + group * n : nullptr;
    };
    const T* const bias = bias_or_null == nullptr ? nullptr : bias_or_null + group * n;
    write_tile<TILE_M, TILE_N, ACTIVATION>(sums, row_of, first_m, first_n, n, bias);
}

// blockIdx.z = group · phases + phase. Tiles beyond a phase's pixels end at once.
template <typename T, int TILE_M, int TILE_N, bool PACKED>
__global__ void __launch_bounds__(Tiling<TILE_M, TILE_N>::THREADS,
                                  (BLOCKS<T, TILE_M, TILE_N, PACKED>))
    conv2d_input_grad(const T* __restrict__ gy, const T* __restrict__ w, T* __restrict__ gx,
                      const __grid_constant__ Conv conv) {
    constexpr int EACH = Tiling<TILE_M, TILE_N>::EACH, K = Tiling<TILE_M, TILE_N>::K;
    using Left = Windows<T, K, PACKED>;
    using Right = WeightsByChannel<T, K, PACKED>;
    __shared__ alignas(16) T a_stages[2][Lines<T, Left, TILE_M, K>::at(K)];
    __shared__ alignas(16) T b_stages[2][Lines<T, Right, TILE_N, K>::at(K)];
    __shared__ Tap taps[2][K];

    const int phases = conv.stride_h * conv.stride_w, phase = blockIdx.z % phases;
    const Phase down =
        phase_of(phase / conv.stride_w, conv.h, conv.r, conv.stride_h, conv.top, conv.dilation_h);
    const Phase right =
        phase_of(phase % conv.stride_w, conv.w, conv.s, conv.stride_w, conv.left, conv.dilation_w);
    const int group = blockIdx.z / phases, depth = conv.k / conv.groups, n = conv.c / conv.groups;
    const int m = conv.n * down.count * right.count, k = down.taps * right.taps * depth;
    const int tiles_n = (n + TILE_N - 1) / TILE_N;
    const int first_m = blockIdx.x / tiles_n * TILE_M, first_n = blockIdx.x % tiles_n * TILE_N;
    if (first_m >= m) return;

    const Left windows{gy + group * depth, conv.p,      conv.q,       conv.k, conv.n, down.count,
                       right.count,        down.corner, right.corner, 1,      1,      taps};
    const int weight = n * conv.k;  // elements of one tap
    const Taps<K> table{taps,
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
    const Right weights{w + group * depth, n, conv.k, taps};
    T sums[EACH][EACH];
    multiply_tile<TILE_M, TILE_N>(windows, weights, table, first_m, first_n, 0, k, a_stages,
                                  b_stages, sums);

    const auto row_of = [=](int i) -> T* {
        if (i >= m) return nullptr;
        const int line = i / right.count, column = right.first + i % right.count * conv.stride_w;
        const int row = down.first + line % down.count * conv.stride_h, image = line / down.count;
        const long long pixel = (static_cast<long long>(image) * conv.h + row) * conv.w + column;
        return gx + pixel * conv.c + group * n;
    };
    write_tile<TILE_M, TILE_N, NO_ACTIVATION>(sums, row_of, first_m, first_n, n,
                                              static_cast<const T*>(nullptr));
}

// blockIdx.z = group · splits + split; `parts` holds `splits` weight gradients one after another.
template <typename T, int TILE_M, int TILE_N, bool PACKED_X, bool PACKED_GY>
__global__ void __launch_bounds__(Tiling<TILE_M, TILE_N>::THREADS,
                                  (BLOCKS<T, TILE_M, TILE_N, PACKED_X && PACKED_GY>))
    conv2d_weight_grad(const T* __restrict__ x, const T* __restrict__ gy, T* __restrict__ parts,
                       const __grid_constant__ Conv conv, int splits, int k_per_split) {
    constexpr int EACH = Tiling<TILE_M, TILE_N>::EACH, K = Tiling<TILE_M, TILE_N>::K;
    using Left = WindowsAcross<T, K, PACKED_X>;
    using Right = Matrix<T, false, PACKED_GY>;
    __shared__ alignas(16) T a_stages[2][Lines<T, Left, TILE_M, K>::at(K)];
    __shared__ alignas(16) T b_stages[2][Lines<T, Right, TILE_N, K>::at(K)];
    __shared__ Pixel pixels[2][K];

    const int group = blockIdx.z / splits, split = blockIdx.z % splits;
    const int depth = conv.c / conv.groups, n = conv.k / conv.groups, m = conv.r * conv.s * depth;
    const int tiles_n = (n + TILE_N - 1) / TILE_N;
    const int first_m = blockIdx.x / tiles_n * TILE_M, first_n = blockIdx.x % tiles_n * TILE_N;
    const int k_begin = split * k_per_split;
    const int k_end = k_begin + min(conv.n * conv.p * conv.q - k_begin, k_per_split);

    const Pixels<K> table{pixels, k_end, conv};
    const Left windows{x + group * depth, depth, conv, pixels};
    const Right gradients{gy + group * n, n, k_end, conv.k};
    T sums[EACH][EACH];
    multiply_tile<TILE_M, TILE_N>(windows, gradients, table, first_m, first_n, k_begin, k_end,
                                  a_stages, b_stages, sums);

    T* const part = parts + static_cast<long long>(split) * m * conv.k + group * n;
    const auto row_of = [=](int i) {
        return i < m ? part + static_cast<long long>(i) * conv.k : nullptr;
    };
    write_tile<TILE_M, TILE_N, NO_ACTIVATION>(sums, row_of, first_m, first_n, n,
                                              static_cast<const T*>(nullptr));
}
