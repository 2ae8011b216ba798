// NAME: a fully connected layer without its bias, one thread an output.
//
// x (N,C), w (C,K) -> y (N,K).
#include "gpukit.cuh"

template <typename T>
__global__ void NAME(const T* __restrict__ x, const T* __restrict__ w, T* __restrict__ y,
                     long long elements, int inputs, int outputs) {
    const long long i = gpukit::thread_number();
    if (i >= elements) return;
    const long long n = i / outputs, k = i % outputs;
    T sum = 0;
    for (int c = 0; c < inputs; c++) sum += x[n * inputs + c] * w[(long long)c * outputs + k];
    y[i] = sum;
}
