// NAME: max-pooling, one thread an output.
//
// x (N,H,W,C) -> y (N,P,Q,C) and index (N,P,Q,C), the number r·S + s of the cell that won: the first
// of equal ones; NaN wins. Padding takes no part.
#include "gpukit.cuh"

template <typename T>
__global__ void NAME(const T* __restrict__ x, T* __restrict__ y, unsigned char* __restrict__ index,
                     long long elements, int height, int width, int channels, int rows, int columns,
                     int window_rows, int window_columns, int stride_down, int stride_across,
                     int pad_top, int pad_left) {
    const long long i = gpukit::thread_number();
    if (i >= elements) return;
    const int c = i % channels;
    const int q = i / channels % columns;
    const int p = i / channels / columns % rows;
    const long long n = i / channels / columns / rows;
    T best = 0;
    int winner = -1;
    for (int r = 0; r < window_rows; r++) {
        const int h = p * stride_down + r - pad_top;
        if (h < 0 || h >= height) continue;
        for (int s = 0; s < window_columns; s++) {
            const int v = q * stride_across + s - pad_left;
            if (v < 0 || v >= width) continue;
            const T cell = x[((n * height + h) * width + v) * channels + c];
            const bool is_first_nan = cell != cell && best == best;
            if (winner < 0 || cell > best || is_first_nan) {
                best = cell;
                winner = r * window_columns + s;
            }
        }
    }
    y[i] = best;
    index[i] = winner;
}
