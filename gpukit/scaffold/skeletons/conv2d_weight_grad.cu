// NAME: the gradient by a convolution's weights, one thread a weight.
//
// x (N,H,W,C), gy (N,P,Q,K) -> gw (R,S,C,K): a sum over all N·P·Q windows.
#include "gpukit.cuh"

template <typename T>
__global__ void NAME(const T* __restrict__ x, const T* __restrict__ gy, T* __restrict__ gw,
                     long long elements, int images, int height, int width, int channels, int rows,
                     int columns, int filters, int kernel_columns, int stride_down,
                     int stride_across, int pad_top, int pad_left) {
    const long long i = gpukit::thread_number();
    if (i >= elements) return;
    const int k = i % filters;
    const int c = i / filters % channels;
    const int s = i / filters / channels % kernel_columns;
    const int r = i / filters / channels / kernel_columns;
    T sum = 0;
    for (long long n = 0; n < images; n++) {
        for (int p = 0; p < rows; p++) {
            const int h = p * stride_down + r - pad_top;
            if (h < 0 || h >= height) continue;
            for (int q = 0; q < columns; q++) {
                const int v = q * stride_across + s - pad_left;
                if (v < 0 || v >= width) continue;
                sum += x[((n * height + h) * width + v) * channels + c] *
                       gy[((n * rows + p) * columns + q) * filters + k];
            }
        }
    }
    gw[i] = sum;
}
