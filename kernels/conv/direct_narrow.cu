// Convolution with few filters or channels a group (depthwise: one): no tiles.
//
// conv/direct.cu's tiles are 16 columns wide at least; with one filter a group 15 of them would
// multiply zeros. There is little to share between threads here either: a depthwise output adds R·S
// products, so bytes decide. 3×3 depthwise on 128×56×56×128: 0.9 GFLOP, 411 MB in and out: 86 µs at
// 4.8 TB/s, 14 µs of arithmetic at 67 TFLOP/s.
//
//   forward          a thread = PIXELS neighbours in a row of y, one filter; a weight is read once
//                    for all of them.    thread number: (((n·P + p)·⌈Q/PIXELS⌉ + q block)·K + k)
//   input gradient   `lanes` threads = the channels of one group and pixel of gx, gathered from the
//                    windows that saw it. The lanes take turns with the filters, which lie side by
//                    side, and add up by shuffles in a fixed order: a gradient is read once for all
//                    channels.           thread number: (((n·H + h)·W + w)·G + group)·lanes + lane
//   weight gradient  a block = one (r, s, c), or a pack of channels, and `width` filters; 256 / width
//                    threads a filter take turns with the pixels of a range, their sums are halved in
//                    shared memory in a fixed order, and linear.cu's split_sum adds the ranges in order.
//
// Filters (channels) are the fastest index, so that a warp reads and writes runs of 128 bytes; the
// overlap of windows is left to L1. All threads of a group read the same channels of x: a warp asks
// for few bytes of many sectors, so where channels come in packs it asks once for four (two) of them.
// Each element of y costs R·S·C/G·(1 + 1/PIXELS) numbers: with many channels a group the tiles win,
// the launcher draws the line at 4 filters (channels).
//
// instances: conv2d_forward_narrow<T, true, 0>, conv2d_forward_narrow<T, true, 1>
// instances: conv2d_forward_narrow<T, false, 0>, conv2d_forward_narrow<T, false, 1>
// instances: conv2d_forward_narrow<T, false, 2>, conv2d_forward_narrow<T, false, 3>
// instances: conv2d_input_grad_narrow<T, true>, conv2d_input_grad_narrow<T, false>
// instances: conv2d_weight_grad_narrow<T, true>, conv2d_weight_grad_narrow<T, false>
#include "conv/conv.cuh"
#include "epilogue.cuh"
#include "gpukit.cuh"
#include "pack.cuh"

constexpr int PIXELS = 4;
constexpr int MOST = 4;  // channels a group that the input gradient takes

// CHANNEL_PACKS here and below: the channels of x come as packs of 16 bytes.
template <typename T, bool CHANNEL_PACKS, int ACTIVATION>
__global__ void __launch_bounds__(256, 4)
    conv2d_forward_narrow(const T* __restrict__ x, const T* __restrict__ w,
                          const T* __restrict__ bias_or_null, T* __restrict__ y,
                          const __grid_constant__ Conv conv) {
    using Word = Load<T, CHANNEL_PACKS>;
    constexpr int V = Word::size;
    const int runs = gpukit::divide_up(conv.q, PIXELS);
    long long rest = gpukit::thread_number();
    const int k = rest % conv.k;
    rest /= conv.k;
    const int q = rest % runs * PIXELS;
    rest /= runs;
    const int p = rest % conv.p;
    const long long image = rest / conv.p;
    if (image >= conv.n) return;

    const int depth = conv.c / conv.groups, group = k / (conv.k / conv.groups);
    const int h0 = p * conv.stride_h - conv.top, w0 = q * conv.stride_w - conv.left;
    const T* const from = x + image * conv.h * conv.w * conv.c + group * depth;
    T sums[PIXELS] = {};
    for (int r = 0; r < conv.r; ++r) {
        const int h = h0 + r * conv.dilation_h;
        if (h < 0 || h >= conv.h) continue;
        for (int s = 0; s < conv.s; ++s) {
            const T* weight = w + static_cast<long long>(r * conv.s + s) * depth * conv.k + k;
#pragma unroll(V == 1 ? 2 : 1)  // packs twice would spill on sm_120
            for (int c = 0; c < depth; c += V) {
                T factors[V];
#pragma unroll
                for (int v = 0; v < V; ++v, weight += conv.k) factors[v] = *weight;
#pragma unroll
                for (int i = 0; i < PIXELS; ++i) {
                    const int column = w0 + i * conv.stride_w + s * conv.dilation_w;
                    if (column < 0 || column >= conv.w) continue;
                    const T* const at = from + (h * conv.w + column) * conv.c + c;
                    const Word word = *reinterpret_cast<const Word*>(at);
#pragma unroll
                    for (int v = 0; v < V; ++v) sums[i] += word.at[v] * factors[v];
                }
            }
        }
    }
    const T offset = bias_or_null == nullptr ? T(0) : bias_or_null[k];
    T* const to = y + ((image * conv.p + p) * conv.q + q) * conv.k + k;
#pragma unroll
    for (int i = 0; i < PIXELS; ++i)
        if (q + i < conv.q)
            to[static_cast<long long>(i) * conv.k] = activate<ACTIVATION>(sums[i] + offset);
}

// `lanes`, a power of two up to 32, share the filters of a pixel and add up what each has.
template <typename T, bool PACKED>
__global__ void __launch_bounds__(256, 4)
    conv2d_input_grad_narrow(const T* __restrict__ gy, const T* __restrict__ w, T* __restrict__ gx,
                             const __grid_constant__ Conv conv, int lanes) {
    using Word = Load<T, PACKED>;
    constexpr int V = Word::size;
    const int lane = threadIdx.x % lanes;
    const long long place = gpukit::thread_number() / lanes;
    long long rest = place;
    const int group = rest % conv.groups;
    rest /= conv.groups;
    const int column = rest % conv.w;
    rest /= conv.w;
    const int row = rest % conv.h;
    const long long image = rest / conv.h;
    const bool inside = image < conv.n;

    const int depth = conv.c / conv.groups, n = conv.k / conv.groups;
    const T* const from = gy + image * conv.p * conv.q * conv.k + group * n;
    const T* const weights = w + group * n;
    T sums[MOST] = {};
    for (int r = 0; inside && r < conv.r; ++r) {
        const int down = row + conv.top - r * conv.dilation_h, p = down / conv.stride_h;
        if (down < 0 || down % conv.stride_h != 0 || p >= conv.p) continue;
        for (int s = 0; s < conv.s; ++s) {
            const int right = column + conv.left - s * conv.dilation_w, q = right / conv.stride_w;
            if (right < 0 || right % conv.stride_w != 0 || q >= conv.q) continue;
            const T* const gradients = from + (p * conv.q + q) * conv.k;
            const T* const tap = weights + static_cast<long long>(r * conv.s + s) * depth * conv.k;
            for (int k = lane * V; k < n; k += lanes * V) {
                const Word gradient = *reinterpret_cast<const Word*>(gradients + k);
#pragma unroll
                for (int c = 0; c < MOST; ++c) {
                    if (c >= depth) break;
                    const Word weight = *reinterpret_cast<const Word*>(tap + c * conv.k + k);
#pragma unroll
                    for (int v = 0; v < V; ++v) sums[c] += gradient.at[v] * weight.at[v];
                }
            }
        }
    }
    for (int bit = lanes / 2; bit > 0; bit /= 2)
#pragma unroll
        for (int c = 0; c < MOST; ++c) sums[c] += __shfl_xor_sync(0xffffffffu, sums[c], bit);
    if (!inside || lane != 0) return;
    T* const to = gx + place * depth;
    constexpr int PACK = Pack<T>::size;
    if (depth % PACK == 0 && aligned(to)) {
#pragma unroll
        for (int c = 0; c < MOST; c += PACK) {
            Pack<T> pack;
#pragma unroll
            for (int v = 0; v < PACK; ++v) pack.at[v] = sums[c + v];
            if (c < depth) store(to + c, pack);
        }
    } else {
#pragma unroll
        for (int c = 0; c < MOST; ++c)
            if (c < depth) to[c] = sums[c];
    }
}

// blockIdx.x = (r, s, c) · tiles of filters + tile;  blockIdx.y = range of pixels. `lanes` is a
// power of two: so many filters lie side by side in a block.
template <typename T, bool CHANNEL_PACKS>
__global__ void __launch_bounds__(256, 4)
    conv2d_weight_grad_narrow(const T* __restrict__ x, const T* __restrict__ gy,
                              T* __restrict__ parts, const __grid_constant__ Conv conv, int splits,
                              int k_per_split, int lanes) {
    using Word = Load<T, CHANNEL_PACKS>;
    constexpr int V = Word::size;
    __shared__ T sums[V][256];
    const int tiles = gpukit::divide_up(conv.k, lanes), depth = conv.c / conv.groups;
    const int k = blockIdx.x % tiles * lanes + threadIdx.x % lanes;
    const int cell = blockIdx.x / tiles * V;
    const int c = cell % depth, s = cell / depth % conv.s, r = cell / depth / conv.s;
    const int turns = blockDim.x / lanes;
    const int begin = blockIdx.y * k_per_split;
    const int end = begin + min(conv.n * conv.p * conv.q - begin, k_per_split);

    T sum[V] = {};
    if (k < conv.k) {
        const T* const from = x + k / (conv.k / conv.groups) * depth + c;
        for (int pixel = begin + static_cast<int>(threadIdx.x) / lanes; pixel < end;
             pixel += turns) {
            const int line = pixel / conv.q;
            const int h = line % conv.p * conv.stride_h - conv.top + r * conv.dilation_h;
            const int column = pixel % conv.q * conv.stride_w - conv.left + s * conv.dilation_w;
            if (h < 0 || h >= conv.h || column < 0 || column >= conv.w) continue;
            const long long place =
                (static_cast<long long>(line / conv.p) * conv.h + h) * conv.w + column;
            const Word word = *reinterpret_cast<const Word*>(from + place * conv.c);
            const T gradient = gy[static_cast<long long>(pixel) * conv.k + k];
#pragma unroll
            for (int v = 0; v < V; ++v) sum[v] += word.at[v] * gradient;
        }
    }
#pragma unroll
    for (int v = 0; v < V; ++v) sums[v][threadIdx.x] = sum[v];
    for (int half = blockDim.x / 2; half >= lanes; half /= 2) {
        __syncthreads();
        if (static_cast<int>(threadIdx.x) >= half) continue;
#pragma unroll
        for (int v = 0; v < V; ++v) sums[v][threadIdx.x] += sums[v][threadIdx.x + half];
    }
    if (static_cast<int>(threadIdx.x) < lanes && k < conv.k) {
        const long long size = static_cast<long long>(conv.r) * conv.s * depth * conv.k;
        T* const to = parts + blockIdx.y * size + static_cast<long long>(cell) * conv.k + k;
#pragma unroll
        for (int v = 0; v < V; ++v) to[static_cast<long long>(v) * conv.k] = sums[v][threadIdx.x];
    }
}
