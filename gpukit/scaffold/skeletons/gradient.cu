// NAME: PRIMITIVE, one thread an element.
//
// gy, the result y of the forward pass, and gx: n elements each.
#include "gpukit.cuh"

template <typename T>
__global__ void NAME(const T* __restrict__ gy, const T* __restrict__ y, T* __restrict__ gx,
                     long long n) {
    const long long i = gpukit::thread_number();
    if (i >= n) return;
    const T g = gy[i], v = y[i];
    gx[i] = EXPRESSION;
}
