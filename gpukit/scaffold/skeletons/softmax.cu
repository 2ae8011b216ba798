// NAME: PRIMITIVE, one thread a row.
//
// x and y (rows, classes). The row's maximum m is taken off first, so that no exponential overflows.
#include "gpukit.cuh"

template <typename T>
__global__ void NAME(const T* __restrict__ x, T* __restrict__ y, long long rows, int classes) {
    const long long row = gpukit::thread_number();
    if (row >= rows) return;
    const T* from = x + row * classes;
    T* to = y + row * classes;
    T m = from[0];
    for (int k = 1; k < classes; k++) m = gpukit::maximum(m, from[k]);
    T sum = 0;
    for (int k = 0; k < classes; k++) sum += exp(from[k] - m);
    for (int k = 0; k < classes; k++) to[k] = EXPRESSION;
}
