// NAME: a step of gradient descent with momentum, over one flat buffer, in place, one thread an
// element.
//
// Weights w, velocity v and gradient g: n elements each.
#include "gpukit.cuh"

template <typename T>
__global__ void NAME(T* __restrict__ w, T* __restrict__ v, const T* __restrict__ g, long long n,
                     T lr, T momentum, T weight_decay, int nesterov) {
    const long long i = gpukit::thread_number();
    if (i >= n) return;
    // Asked and not just multiplied: 0·w is NaN for a weight that is not finite.
    const T step = lr * (weight_decay != 0 ? g[i] + weight_decay * w[i] : g[i]);
    const T speed = momentum * v[i] - step;
    v[i] = speed;
    w[i] += nesterov ? momentum * speed - step : speed;
}
