// NAME: the gradient by a convolution's input, one thread a pixel's channel.
//
// gy (N,P,Q,K), w (R,S,C,K) -> gx (N,H,W,C): each gy that pixel h had a part in, by
//     h + pad = p·stride + r
#include "gpukit.cuh"

template <typename T>
__global__ void NAME(const T* __restrict__ gy, const T* __restrict__ w, T* __restrict__ gx,
                     long long elements, int height, int width, int channels, int rows, int columns,
                     int filters, int kernel_rows, int kernel_columns, int stride_down,
                     int stride_across, int pad_top, int pad_left) {
    const long long i = gpukit::thread_number();
    if (i >= elements) return;
    const int c = i % channels;
    const int v = i / channels % width;
    const int h = i / channels / width % height;
    const long long n = i / channels / width / height;
    T sum = 0;
    for (int r = 0; r < kernel_rows; r++) {
        const int down = h + pad_top - r;
        if (down < 0 || down % stride_down || down / stride_down >= rows) continue;
        for (int s = 0; s < kernel_columns; s++) {
            const int across = v + pad_left - s;
            if (across < 0 || across % stride_across || across / stride_across >= columns) continue;
            const long long pixel = (n * rows + down / stride_down) * columns + across / stride_across;
            const T* tap = w + ((long long)(r * kernel_columns + s) * channels + c) * filters;
            for (int k = 0; k < filters; k++) sum += gy[pixel * filters + k] * tap[k];
        }
    }
    gx[i] = sum;
}
