// NAME: a step of Adam over one flat buffer, in place, one thread an element.
//
// Weights w, state m and v, gradient g: n elements each. rate = lr/(1-β1^t), root = 1/√(1-β2^t).
#include "gpukit.cuh"

template <typename T>
__global__ void NAME(T* __restrict__ w, T* __restrict__ m, T* __restrict__ v,
                     const T* __restrict__ g, long long n, T rate, T beta1, T rest1, T beta2,
                     T rest2, T epsilon, T root, T weight_decay) {
    const long long i = gpukit::thread_number();
    if (i >= n) return;
    // Asked and not just multiplied: 0·w is NaN for a weight that is not finite.
    const T slope = weight_decay != 0 ? g[i] + weight_decay * w[i] : g[i];
    m[i] = beta1 * m[i] + rest1 * slope;
    v[i] = beta2 * v[i] + rest2 * (slope * slope);
    w[i] -= rate * m[i] / (sqrt(v[i]) * root + epsilon);
}
