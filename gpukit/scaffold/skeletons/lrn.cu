// NAME: local response normalisation, one thread an element.
//
// x and y (…,C), n elements; neighbours are those of `length` channels, a group's. scale = alpha/size.
#include "gpukit.cuh"

template <typename T>
__global__ void NAME(const T* __restrict__ x, T* __restrict__ y, long long n, int length, int size,
                     T scale, T beta, T k) {
    const long long i = gpukit::thread_number();
    if (i >= n) return;
    const int c = i % length;
    const int first = c - size / 2 < 0 ? 0 : c - size / 2;
    const int last = c + (size - 1) / 2 < length ? c + (size - 1) / 2 : length - 1;
    T squares = 0;
    for (int d = first; d <= last; d++) squares += x[i - c + d] * x[i - c + d];
    y[i] = x[i] * pow(k + scale * squares, -beta);
}
