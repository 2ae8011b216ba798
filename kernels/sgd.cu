// Stochastic gradient descent over one flat buffer, in place, with or without momentum.
//
// What:    v ← μ·v - lr·(g + wd·w), then w ← w + v, or with Nesterov w ← w + μ·v - lr·(g + wd·w).
//          All parameters of a device are one buffer, so a step is one launch, not one a layer.
// Bytes:   with momentum 12 read and 8 written an element of float32, without 8 and 4; some 6
//          operations. Memory is the floor: LeNet-5's 61,706 parameters are 1.2 MB and take less than
//          a launch does; AlexNet's 61 million are 1.2 GB, 1.2 ms at 1 TB/s.
// Shape:   one thread a pack of 16 bytes (pack.cuh). Fusing decay, momentum and step into one pass is
//          all there is to gain: separate passes would move the same bytes three times.
// Open:    no card has confirmed the rate. Compilers fuse μ·v - step into one rounding, so values
//          differ from the CPU's in the last digit.

// instances: sgd_momentum<T, false>, sgd_momentum<T, true>

#include "pack.cuh"

template <typename T>
__device__ __forceinline__ T step_of(T w, T g, T lr, T weight_decay) {
    // Asked and not just multiplied: 0·w is NaN for a weight that is not finite.
    return lr * (weight_decay != 0 ? g + weight_decay * w : g);
}

template <typename T>
__global__ void __launch_bounds__(256, 4)
sgd_plain(T* __restrict__ w, const T* __restrict__ g, long long n, T lr, T weight_decay) {
    constexpr int V = Pack<T>::size;
    const long long first = first_of_pack<T>();
    if (first + V <= n && aligned(w) && aligned(g)) {
        Pack<T> weights = load(w + first);
        const Pack<T> slope = load(g + first);
#pragma unroll
        for (int i = 0; i < V; ++i) {
            weights.at[i] -= step_of(weights.at[i], slope.at[i], lr, weight_decay);
        }
        store(w + first, weights);
    } else {
        for (long long i = first; i < first + V && i < n; ++i) {
            w[i] -= step_of(w[i], g[i], lr, weight_decay);
        }
    }
}

template <typename T, bool NESTEROV>
__device__ __forceinline__ void descend(T& w, T& v, T g, T lr, T momentum, T weight_decay) {
    const T step = step_of(w, g, lr, weight_decay);
    v = momentum * v - step;
    w += NESTEROV ? momentum * v - step : v;
}

template <typename T, bool NESTEROV>
__global__ void __launch_bounds__(256, 4)
sgd_momentum(T* __restrict__ w, T* __restrict__ v, const T* __restrict__ g, long long n, T lr,
             T momentum, T weight_decay) {
    constexpr int V = Pack<T>::size;
    const long long first = first_of_pack<T>();
    if (first + V <= n && aligned(w) && aligned(v) && aligned(g)) {
        Pack<T> weights = load(w + first), speed = load(v + first);
        const Pack<T> slope = load(g + first);
#pragma unroll
        for (int i = 0; i < V; ++i) {
            descend<T, NESTEROV>(weights.at[i], speed.at[i], slope.at[i], lr, momentum,
                                 weight_decay);
        }
        store(w + first, weights);
        store(v + first, speed);
    } else {
        for (long long i = first; i < first + V && i < n; ++i) {
            descend<T, NESTEROV>(w[i], v[i], g[i], lr, momentum, weight_decay);
        }
    }
}
