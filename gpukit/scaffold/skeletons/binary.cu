// NAME: PRIMITIVE, one thread an element.
//
// x, y and z: n elements each.
#include "gpukit.cuh"

template <typename T>
__global__ void NAME(const T* __restrict__ x, const T* __restrict__ y, T* __restrict__ z,
                     long long n) {
    const long long i = gpukit::thread_number();
    if (i >= n) return;
    const T a = x[i], b = y[i];
    z[i] = EXPRESSION;
}
