// NAME: PRIMITIVE, one thread an element.
//
// x and y: n elements each.
#include "gpukit.cuh"

template <typename T>
__global__ void NAME(const T* __restrict__ x, T* __restrict__ y, long long n) {
    const long long i = gpukit::thread_number();
    if (i >= n) return;
    const T v = x[i];
    y[i] = EXPRESSION;
}
