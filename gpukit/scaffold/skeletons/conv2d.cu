// NAME: convolution, one thread an output. Right, and slow: a place to start from.
//
// x (N,H,W,C), w (R,S,C,K), bias_or_null (K,) -> y (N,P,Q,K), its elements numbered
//     i = ((n·P + p)·Q + q)·K + k
#include "gpukit.cuh"

template <typename T>
__global__ void NAME(const T* __restrict__ x, const T* __restrict__ w,
                     const T* __restrict__ bias_or_null, T* __restrict__ y, long long elements,
                     int height, int width, int channels, int rows, int columns, int filters,
                     int kernel_rows, int kernel_columns, int stride_down, int stride_across,
                     int pad_top, int pad_left) {
    const long long i = gpukit::thread_number();
    if (i >= elements) return;
    const int k = i % filters;
    const int q = i / filters % columns;
    const int p = i / filters / columns % rows;
    const long long n = i / filters / columns / rows;
    T sum = 0;
    for (int r = 0; r < kernel_rows; r++) {
        const int h = p * stride_down + r - pad_top;
        if (h < 0 || h >= height) continue;
        for (int s = 0; s < kernel_columns; s++) {
            const int v = q * stride_across + s - pad_left;
            if (v < 0 || v >= width) continue;
            const T* pixel = x + ((n * height + h) * width + v) * channels;
            const T* tap = w + (long long)(r * kernel_columns + s) * channels * filters + k;
            for (int c = 0; c < channels; c++) sum += pixel[c] * tap[(long long)c * filters];
        }
    }
    y[i] = bias_or_null ? sum + bias_or_null[k] : sum;
}
