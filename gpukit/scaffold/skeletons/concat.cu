// NAME: one of the arrays of a concat, copied to its place, one thread an element.
//
// x (outer,run), n elements -> y (outer,whole), from element `place` of each row on.
#include "gpukit.cuh"

template <typename T>
__global__ void NAME(const T* __restrict__ x, T* __restrict__ y, long long n, long long run,
                     long long whole, long long place) {
    const long long i = gpukit::thread_number();
    if (i >= n) return;
    y[i / run * whole + place + i % run] = x[i];
}
