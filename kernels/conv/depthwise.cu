// Depthwise convolution: every channel is its own group, with M filters (the multiplier).
//
// x (N,H,W,C), w (R,S,1,K), y and gy (N,P,Q,K), K = C·M; filter k sees channel k / M.
//
// An output adds R·S products and shares nothing with other channels, so bytes decide: 3×3 on
// 128×56×56×128 is 0.9 GFLOP and 411 MB in and out, 86 µs at 4.8 TB/s, 14 µs of arithmetic at 67
// TFLOP/s. What can still be lost are load instructions, all of which pass the same few units; so
//
//   forward          a thread = a pack (16 bytes) of filters × 4 neighbours of a row of y. Where
//                    the taps of a row (3 or 5) and the stride (1 or 2) are known to the compiler, a
//                    row's pixels are loaded once for all four:
//
//                        x  c0 c1 c2 c3 c4 c5        3 taps, stride 1: 6 loads of x and 3 of w
//                        y0 ──────                   a row, for 12 products of four channels
//                        y1    ──────
//                        y2       ──────             loads an output, 3×3 float32: 27 / 16 = 1.7,
//                        y3          ──────          conv/direct_narrow.cu's: 9·(1 + 1/4) = 11.25
//
//   input gradient   at stride 1 and M = 1 the forward pass over gy with the taps turned around
//                    (FLIPPED); else a thread = a pack of channels of one pixel, which gathers from
//                    the windows that saw it
//   weight gradient  a thread = a pack of filters × up to 9 taps, whose sums stay in registers while
//                    it goes along rows of y: 1 load of gy and 9 of x, of which the last 6 lie in
//                    the first-level cache, for 36 multiply-adds. Threads of a block add up in
//                    shared memory in a fixed order, ranges of rows by linear.cu's split_sum.
//
// Packs need M = 1, C a multiple of them and arrays that begin at one; else threads take one filter
// (channel) each. An image's threads are counted in 32 bits; images are rows of the grid.
//
// instances: depthwise_forward<T, true, 3, 1, false, 0>, depthwise_forward<T, true, 3, 1, false, 1>
// instances: depthwise_forward<T, true, 3, 2, false, 2>, depthwise_forward<T, true, 5, 1, false, 3>
// instances: depthwise_forward<T, true, 0, 0, false, 0>, depthwise_forward<T, false, 0, 0, false, 3>
// instances: depthwise_forward<T, true, 3, 1, true, 0>, depthwise_forward<T, true, 5, 1, true, 0>
// instances: depthwise_input_grad<T, true>, depthwise_input_grad<T, false>
// instances: depthwise_weight_grad<T, true>, depthwise_weight_grad<T, false>
#include "conv/conv.cuh"
#include "conv/windows.cuh"
#include "gpukit.cuh"

constexpr int NEIGHBOURS = 4;  // pixels of y of a thread

// Threads: ((p·⌈Q/4⌉ + q / 4)·packs of K + pack) along x, images along y.
template <typename T, bool PACKED, int TAPS, int STRIDE, bool FLIPPED, int ACTIVATION>
__global__ void __launch_bounds__(256, TAPS ? 2 : 3)
    depthwise_forward(const T* __restrict__ x, const T* __restrict__ w,
                      const T* __restrict__ bias_or_null, T* __restrict__ y,
                      const __grid_constant__ Conv conv) {
    using Word = Load<T, PACKED>;
    constexpr int V = Word::size;
    const unsigned number = blockIdx.x * blockDim.x + threadIdx.x;
    const unsigned packs = conv.k / V, runs = (conv.q + NEIGHBOURS - 1) / NEIGHBOURS;
    const int k = number % packs * V, p = number / packs / runs;
    const int q = number / packs % runs * NEIGHBOURS;
    if (p >= conv.p) return;
    const int c = PACKED ? k : k / (conv.k / conv.c);
    const int h0 = p * conv.stride_h - conv.top;
    const int w0 = q * (STRIDE ? STRIDE : conv.stride_w) - conv.left;

    Word offset = {};
    if (bias_or_null != nullptr) {
#pragma unroll
        for (int v = 0; v < V; ++v) offset.at[v] = bias_or_null[k + v];
    }
    for (int image = blockIdx.y; image < conv.n; image += gridDim.y) {
        const T* const from = x + static_cast<long long>(image) * conv.h * conv.w * conv.c + c;
        const auto pixel = [=](int h, int column) -> Word {
            if (column < 0 || column >= conv.w) return {};
            return *reinterpret_cast<const Word*>(from + (h * conv.w + column) * conv.c);
        };
        const auto weight = [=](int r, int s) {
            const int tap = FLIPPED ? conv.r * conv.s - 1 - (r * conv.s + s) : r * conv.s + s;
            return *reinterpret_cast<const Word*>(w + tap * conv.k + k);
        };
        Word sums[NEIGHBOURS] = {};
        for (int r = 0; r < conv.r; ++r) {
            const int h = h0 + r * conv.dilation_h;
            if (h < 0 || h >= conv.h) continue;
            if constexpr (TAPS > 0) {
                constexpr int SPAN = (NEIGHBOURS - 1) * STRIDE + TAPS;
                Word row[SPAN];
#pragma unroll
                for (int i = 0; i < SPAN; ++i) row[i] = pixel(h, w0 + i);
#pragma unroll
                for (int s = 0; s < TAPS; ++s) {
                    const Word factor = weight(r, s);
#pragma unroll
                    for (int i = 0; i < NEIGHBOURS; ++i)
#pragma unroll
                        for (int v = 0; v < V; ++v)
                            sums[i].at[v] += row[i * STRIDE + s].at[v] * factor.at[v];
                }
            } else {
                for (int s = 0; s < conv.s; ++s) {
                    const Word factor = weight(r, s);
#pragma unroll
                    for (int i = 0; i < NEIGHBOURS; ++i) {
                        const Word value = pixel(h, w0 + i * conv.stride_w + s * conv.dilation_w);
#pragma unroll
                        for (int v = 0; v < V; ++v) sums[i].at[v] += value.at[v] * factor.at[v];
                    }
                }
            }
        }
        T* const to = y + ((static_cast<long long>(image) * conv.p + p) * conv.q + q) * conv.k + k;
#pragma unroll
        for (int i = 0; i < NEIGHBOURS; ++i) {
            if (q + i >= conv.q) break;
            Word out;
#pragma unroll
            for (int v = 0; v < V; ++v)
                out.at[v] = activate<ACTIVATION>(sums[i].at[v] + offset.at[v]);
            *reinterpret_cast<Word*>(to + i * conv.k) = out;
        }
    }
}

// Threads: ((h·W + w)·packs of C + pack) along x, images along y.
template <typename T, bool PACKED>
__global__ void __launch_bounds__(256, 2)
    depthwise_input_grad(const T* __restrict__ gy, const T* __restrict__ w, T* __restrict__ gx,
                         const __grid_constant__ Conv conv) {
    using Word = Load<T, PACKED>;
    constexpr int V = Word::size;
    const unsigned number = blockIdx.x * blockDim.x + threadIdx.x;
    const unsigned packs = conv.c / V;
    const int c = number % packs * V, row = number / packs / conv.w;
    const int column = number / packs % conv.w;
    if (row >= conv.h) return;
    const int each = PACKED ? 1 : conv.k / conv.c, k = c * each;

    for (int image = blockIdx.y; image < conv.n; image += gridDim.y) {
        const T* const from = gy + static_cast<long long>(image) * conv.p * conv.q * conv.k + k;
        Word sum = {};
        for (int r = 0; r < conv.r; ++r) {
            const int down = row + conv.top - r * conv.dilation_h, p = down / conv.stride_h;
            if (down < 0 || down % conv.stride_h != 0 || p >= conv.p) continue;
            for (int s = 0; s < conv.s; ++s) {
                const int right = column + conv.left - s * conv.dilation_w;
                const int q = right / conv.stride_w;
                if (right < 0 || right % conv.stride_w != 0 || q >= conv.q) continue;
                const T* const gradients = from + (p * conv.q + q) * conv.k;
                const T* const weights = w + (r * conv.s + s) * conv.k + k;
                for (int m = 0; m < each; ++m) {
                    const Word gradient = *reinterpret_cast<const Word*>(gradients + m);
                    const Word weight = *reinterpret_cast<const Word*>(weights + m);
#pragma unroll
                    for (int v = 0; v < V; ++v) sum.at[v] += gradient.at[v] * weight.at[v];
                }
            }
        }
        const long long place = (static_cast<long long>(image) * conv.h + row) * conv.w + column;
        *reinterpret_cast<Word*>(gx + place * conv.c + c) = sum;
    }
}

constexpr int AT_ONCE = 9;  // taps whose sums a thread keeps

// blockIdx.x = split · tiles of packs + tile, blockIdx.y = nine taps. `lanes` (a power of two) packs
// lie side by side in a block; the other threads take turns with the rows of y of a split.
template <typename T, bool PACKED>
__global__ void __launch_bounds__(256, 2)
    depthwise_weight_grad(const T* __restrict__ x, const T* __restrict__ gy, T* __restrict__ parts,
                          const __grid_constant__ Conv conv, int rows_per_split, int lanes) {
    using Word = Load<T, PACKED>;
    constexpr int V = Word::size;
    __shared__ Word space[256];
    const int packs = conv.k / V, tiles = gpukit::divide_up(packs, lanes);
    const int split = blockIdx.x / tiles;
    const int pack = blockIdx.x % tiles * lanes + static_cast<int>(threadIdx.x) % lanes;
    const int k = pack * V, c = PACKED ? k : k / (conv.k / conv.c);
    const int first = blockIdx.y * AT_ONCE, turns = blockDim.x / lanes;
    const int begin = split * rows_per_split;
    const int end = begin + min(conv.n * conv.p - begin, rows_per_split);

    Word sums[AT_ONCE] = {};
    int drop[AT_ONCE], shift[AT_ONCE];  // of a tap: rows and columns from the window's corner
#pragma unroll
    for (int t = 0; t < AT_ONCE; ++t) {
        const bool there = first + t < conv.r * conv.s;
        drop[t] = there ? (first + t) / conv.s * conv.dilation_h : NOWHERE;
        shift[t] = (first + t) % conv.s * conv.dilation_w;
    }
    if (pack < packs) {
        for (int line = begin + static_cast<int>(threadIdx.x) / lanes; line < end; line += turns) {
            const int image = line / conv.p, h0 = line % conv.p * conv.stride_h - conv.top;
            const T* const from = x + static_cast<long long>(image) * conv.h * conv.w * conv.c + c;
            const T* gradients = gy + static_cast<long long>(line) * conv.q * conv.k + k;
            for (int q = 0; q < conv.q; ++q, gradients += conv.k) {
                const Word gradient = *reinterpret_cast<const Word*>(gradients);
                const int w0 = q * conv.stride_w - conv.left;
#pragma unroll
                for (int t = 0; t < AT_ONCE; ++t) {
                    const int h = h0 + drop[t], column = w0 + shift[t];
                    if (h < 0 || h >= conv.h || column < 0 || column >= conv.w) continue;
                    const Word value =
                        *reinterpret_cast<const Word*>(from + (h * conv.w + column) * conv.c);
#pragma unroll
                    for (int v = 0; v < V; ++v) sums[t].at[v] += value.at[v] * gradient.at[v];
                }
            }
        }
    }
    const long long size = static_cast<long long>(conv.r) * conv.s * conv.k;
#pragma unroll
    for (int t = 0; t < AT_ONCE; ++t) {
        if (first + t >= conv.r * conv.s) break;
        space[threadIdx.x] = sums[t];
        for (int half = blockDim.x / 2; half >= lanes; half /= 2) {
            __syncthreads();
            if (static_cast<int>(threadIdx.x) < half) {
                const Word other = space[threadIdx.x + half];
#pragma unroll
                for (int v = 0; v < V; ++v) sums[t].at[v] += other.at[v];
                space[threadIdx.x] = sums[t];
            }
        }
        if (static_cast<int>(threadIdx.x) < lanes && pack < packs)
            *reinterpret_cast<Word*>(parts + split * size +
                                     static_cast<long long>(first + t) * conv.k + k) =
                space[threadIdx.x];
        __syncthreads();
    }
}
