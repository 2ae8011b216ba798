// Convolution with few filters or channels a group (depthwise: one): a thread an element.
//
// conv_direct.cu's tiles are 16 columns wide at least; with one filter a group 15 of them would
// multiply zeros. There is little to share between threads here either: a depthwise output adds R·S
// products, so bytes decide. 3×3 depthwise on 128×56×56×128: 0.9 GFLOP, 411 MB in and out: 86 µs at
// 4.8 TB/s, 14 µs of arithmetic at 67 TFLOP/s.
//
//   forward          a thread = PIXELS neighbours in a row of y, one filter; a weight is read once
//                    for all of them.    thread number: (((n·P + p)·⌈Q/PIXELS⌉ + q block)·K + k)
//   input gradient   a thread = one element of gx: it gathers from the windows that saw it.
//                                        thread number: ((n·H + h)·W + w)·C + c
//   weight gradient  a block = one (r, s, c) and `width` filters; 256 / width threads a filter take
//                    turns with the pixels of a range, their sums are halved in shared memory in a
//                    fixed order, and gemm.cu's split_sum adds the ranges in order.
//
// Filters (channels) are the fastest index, so that a warp reads and writes runs of 128 bytes; the
// overlap of windows is left to L1. Each element of y costs R·S·C/G·(1 + 1/PIXELS) loads, two or
// three instructions each: with many channels a group the tiles win, the launcher draws the line at
// 4 filters (channels). No card has confirmed where it lies.
//
// instances: conv2d_forward_narrow<T, 0>, conv2d_forward_narrow<T, 1>, conv2d_forward_narrow<T, 2>
// instances: conv2d_forward_narrow<T, 3>
#include "epilogue.cuh"
#include "gpukit.cuh"

constexpr int PIXELS = 4;

template <typename T, int ACTIVATION>
__global__ void __launch_bounds__(256, 4)
    conv2d_forward_narrow(const T* __restrict__ x, const T* __restrict__ w,
                          const T* __restrict__ bias_or_null, T* __restrict__ y, int images,
                          int height, int width, int channels, int taps_h, int taps_w, int filters,
                          int out_height, int out_width, int stride_h, int stride_w, int pad_h,
                          int pad_w, int dilation_h, int dilation_w, int groups) {
    const int runs = gpukit::divide_up(out_width, PIXELS);
    long long rest = gpukit::thread_number();
    const int k = rest % filters;
    rest /= filters;
    const int q = rest % runs * PIXELS;
    rest /= runs;
    const int p = rest % out_height;
    const long long image = rest / out_height;
    if (image >= images) return;

    const int depth = channels / groups, group = k / (filters / groups);
    const int h0 = p * stride_h - pad_h, w0 = q * stride_w - pad_w;
    const T* const from = x + image * height * width * channels + group * depth;
    T sums[PIXELS] = {};
    for (int r = 0; r < taps_h; ++r) {
        const int h = h0 + r * dilation_h;
        if (h < 0 || h >= height) continue;
        for (int s = 0; s < taps_w; ++s) {
            const T* weight = w + static_cast<long long>(r * taps_w + s) * depth * filters + k;
            for (int c = 0; c < depth; ++c, weight += filters) {
                const T factor = *weight;
#pragma unroll
                for (int i = 0; i < PIXELS; ++i) {
                    const int column = w0 + i * stride_w + s * dilation_w;
                    if (column >= 0 && column < width)
                        sums[i] += from[(h * width + column) * channels + c] * factor;
                }
            }
        }
    }
    const T offset = bias_or_null == nullptr ? T(0) : bias_or_null[k];
    T* const to = y + ((image * out_height + p) * out_width + q) * filters + k;
#pragma unroll
    for (int i = 0; i < PIXELS; ++i)
        if (q + i < out_width)
            to[static_cast<long long>(i) * filters] = activate<ACTIVATION>(sums[i] + offset);
}

template <typename T>
__global__ void __launch_bounds__(256, 4)
    conv2d_input_grad_narrow(const T* __restrict__ gy, const T* __restrict__ w, T* __restrict__ gx,
                             int images, int height, int width, int channels, int taps_h,
                             int taps_w, int filters, int out_height, int out_width, int stride_h,
                             int stride_w, int pad_h, int pad_w, int dilation_h, int dilation_w,
                             int groups) {
    const long long element = gpukit::thread_number();
    long long rest = element;
    const int c = rest % channels;
    rest /= channels;
    const int column = rest % width;
    rest /= width;
    const int row = rest % height;
    const long long image = rest / height;
    if (image >= images) return;

    const int depth = channels / groups, n = filters / groups, group = c / depth;
    const T* const from = gy + image * out_height * out_width * filters + group * n;
    const T* const weights = w + static_cast<long long>(c % depth) * filters + group * n;
    T sum = T(0);
    for (int r = 0; r < taps_h; ++r) {
        const int down = row + pad_h - r * dilation_h, p = down / stride_h;
        if (down < 0 || down % stride_h != 0 || p >= out_height) continue;
        for (int s = 0; s < taps_w; ++s) {
            const int right = column + pad_w - s * dilation_w, q = right / stride_w;
            if (right < 0 || right % stride_w != 0 || q >= out_width) continue;
            const T* const gradient = from + (p * out_width + q) * filters;
            const T* const weight =
                weights + static_cast<long long>(r * taps_w + s) * depth * filters;
            for (int k = 0; k < n; ++k) sum += gradient[k] * weight[k];
        }
    }
    gx[element] = sum;
}

// blockIdx.x = (r, s, c) · tiles of filters + tile;  blockIdx.y = range of pixels. `lanes` is a
// power of two: so many filters lie side by side in a block.
template <typename T>
__global__ void __launch_bounds__(256, 4)
    conv2d_weight_grad_narrow(const T* __restrict__ x, const T* __restrict__ gy,
                              T* __restrict__ parts, int images, int height, int width,
                              int channels, int taps_h, int taps_w, int filters, int out_height,
                              int out_width, int stride_h, int stride_w, int pad_h, int pad_w,
                              int dilation_h, int dilation_w, int groups, int splits,
                              int k_per_split, int lanes) {
    __shared__ T sums[256];
    const int tiles = gpukit::divide_up(filters, lanes), depth = channels / groups;
    const int k = blockIdx.x % tiles * lanes + threadIdx.x % lanes, cell = blockIdx.x / tiles;
    const int c = cell % depth, s = cell / depth % taps_w, r = cell / depth / taps_w;
    const int turns = blockDim.x / lanes;
    const int begin = blockIdx.y * k_per_split;
    const int end = begin + min(images * out_height * out_width - begin, k_per_split);

    T sum = T(0);
    if (k < filters) {
        const T* const from = x + k / (filters / groups) * depth + c;
        for (int pixel = begin + static_cast<int>(threadIdx.x) / lanes; pixel < end;
             pixel += turns) {
            const int line = pixel / out_width;
            const int h = line % out_height * stride_h - pad_h + r * dilation_h;
            const int column = pixel % out_width * stride_w - pad_w + s * dilation_w;
            if (h < 0 || h >= height || column < 0 || column >= width) continue;
            const long long place =
                (static_cast<long long>(line / out_height) * height + h) * width + column;
            sum += from[place * channels] * gy[static_cast<long long>(pixel) * filters + k];
        }
    }
    sums[threadIdx.x] = sum;
    for (int half = blockDim.x / 2; half >= lanes; half /= 2) {
        __syncthreads();
        if (static_cast<int>(threadIdx.x) < half)
            sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    if (static_cast<int>(threadIdx.x) < lanes && k < filters) {
        const long long size = static_cast<long long>(taps_h) * taps_w * depth * filters;
        parts[blockIdx.y * size + static_cast<long long>(cell) * filters + k] =
            sums[threadIdx.x];
    }
}
