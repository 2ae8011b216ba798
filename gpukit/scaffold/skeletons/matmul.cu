// NAME: a matrix product, one thread an element of it.
//
// a (M,K), b (K,N) -> c (M,N).
#include "gpukit.cuh"

template <typename T>
__global__ void NAME(const T* __restrict__ a, const T* __restrict__ b, T* __restrict__ c,
                     long long elements, int length, int columns) {
    const long long i = gpukit::thread_number();
    if (i >= elements) return;
    const long long m = i / columns, n = i % columns;
    T sum = 0;
    for (int k = 0; k < length; k++) sum += a[m * length + k] * b[(long long)k * columns + n];
    c[i] = sum;
}
