// NAME: batch normalisation with given statistics, one thread an element.
//
// x and y (…,C), n elements; gamma, beta, mean and variance (C,).
#include "gpukit.cuh"

template <typename T>
__global__ void NAME(const T* __restrict__ x, const T* __restrict__ gamma,
                     const T* __restrict__ beta, const T* __restrict__ mean,
                     const T* __restrict__ variance, T* __restrict__ y, long long n, int channels,
                     T epsilon) {
    const long long i = gpukit::thread_number();
    if (i >= n) return;
    const int c = i % channels;
    y[i] = (x[i] - mean[c]) * (gamma[c] / sqrt(variance[c] + epsilon)) + beta[c];
}
