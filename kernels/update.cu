// Adam, RMSProp and AdaGrad over one flat buffer, in place.
//
// What:    Adam     m ← β1·m + (1-β1)·g, v ← β2·v + (1-β2)·g², w ← w - rate·m/(√v·root + ε), where
//                   rate = lr/(1-β1^t) and root = 1/√(1-β2^t) undo the zeros at the start: two
//                   numbers a step, which the host works out in double precision
//          RMSProp  a ← ρ·a + (1-ρ)·g², step = lr·g/(√a + ε), w ← w - step, or through a velocity
//          AdaGrad  a ← a + g², w ← w - lr·g/(√a + ε)
//          1 - β comes from the host, too: 1 - 0.999f is off in the fifth digit. Everywhere
//          g + wd·w stands for g where there is weight decay. All parameters of a device are one buffer, so
//          a step is one launch, not one a layer.
// Bytes:   Adam reads w, m, v, g and writes w, m, v: 28 an element of float32, 12 operations, a square
//          root and a division. RMSProp 20, with velocity 28; AdaGrad 20. Memory is the floor: AlexNet's
//          61 million parameters are 1.7 GB, 0.36 ms at 4.8 TB/s.
// Shape:   one thread a pack of 16 bytes (pack.cuh), as in update.cu: one pass, nothing is read twice.
// Exact:   compilers fuse products and sums into one rounding, so values differ from the CPU's in the
//          last digit.

#include "pack.cuh"

// instances: rmsprop_momentum<T>, rmsprop_plain<T>, adam<T>, adagrad<T>


template <typename T>
__device__ __forceinline__ T decayed(T g, T w, T weight_decay) {
    // Asked and not just multiplied: 0·w is NaN for a weight that is not finite.
    return weight_decay != 0 ? g + weight_decay * w : g;
}

// The settings of a step; each rule says what one element's state becomes.

template <typename T>
struct Adam {
    T rate, beta1, rest1, beta2, rest2, epsilon, root, weight_decay;

    __device__ __forceinline__ void step(T& w, T& m, T& v, T slope) const {
        const T g = decayed(slope, w, weight_decay);
        m = beta1 * m + rest1 * g;
        v = beta2 * v + rest2 * (g * g);
        w -= rate * m / (sqrt(v) * root + epsilon);
    }
};

template <typename T>
struct RmsProp {
    T rate, rho, rest, epsilon, momentum, weight_decay;

    __device__ __forceinline__ T change(T w, T& a, T slope) const {
        const T g = decayed(slope, w, weight_decay);
        a = rho * a + rest * (g * g);
        return rate * g / (sqrt(a) + epsilon);
    }
    __device__ __forceinline__ void step(T& w, T& a, T slope) const { w -= change(w, a, slope); }
    __device__ __forceinline__ void step(T& w, T& a, T& v, T slope) const {
        v = momentum * v - change(w, a, slope);
        w += v;
    }
};

template <typename T>
struct AdaGrad {
    T rate, epsilon, weight_decay;

    __device__ __forceinline__ void step(T& w, T& a, T slope) const {
        const T g = decayed(slope, w, weight_decay);
        a += g * g;
        w -= rate * g / (sqrt(a) + epsilon);
    }
};

// One pack of weights and of one state.
template <typename T, typename Rule>
__device__ __forceinline__ void update(T* w, T* a, const T* g, long long n, const Rule& rule) {
    constexpr int V = Pack<T>::size;
    const long long first = first_of_pack<T>();
    if (first + V <= n && aligned(w) && aligned(a) && aligned(g)) {
        Pack<T> weights = load(w + first), state = load(a + first);
        const Pack<T> slope = load(g + first);
#pragma unroll
        for (int i = 0; i < V; ++i) rule.step(weights.at[i], state.at[i], slope.at[i]);
        store(w + first, weights);
        store(a + first, state);
    } else {
        for (long long i = first; i < first + V && i < n; ++i) rule.step(w[i], a[i], g[i]);
    }
}

// One pack of weights and of two states.
template <typename T, typename Rule>
__device__ __forceinline__ void update(T* w, T* a, T* b, const T* g, long long n, const Rule& rule) {
    constexpr int V = Pack<T>::size;
    const long long first = first_of_pack<T>();
    if (first + V <= n && aligned(w) && aligned(a) && aligned(b) && aligned(g)) {
        Pack<T> weights = load(w + first), one = load(a + first), other = load(b + first);
        const Pack<T> slope = load(g + first);
#pragma unroll
        for (int i = 0; i < V; ++i) {
            rule.step(weights.at[i], one.at[i], other.at[i], slope.at[i]);
        }
        store(w + first, weights);
        store(a + first, one);
        store(b + first, other);
    } else {
        for (long long i = first; i < first + V && i < n; ++i) rule.step(w[i], a[i], b[i], g[i]);
    }
}

template <typename T>
__global__ void __launch_bounds__(256, 4)
adam(T* __restrict__ w, T* __restrict__ m, T* __restrict__ v, const T* __restrict__ g, long long n,
     T rate, T beta1, T rest1, T beta2, T rest2, T epsilon, T root, T weight_decay) {
    update(w, m, v, g, n, Adam<T>{rate, beta1, rest1, beta2, rest2, epsilon, root, weight_decay});
}

template <typename T>
__global__ void __launch_bounds__(256, 4)
rmsprop_plain(T* __restrict__ w, T* __restrict__ a, const T* __restrict__ g, long long n, T rate,
              T rho, T rest, T epsilon, T weight_decay) {
    update(w, a, g, n, RmsProp<T>{rate, rho, rest, epsilon, 0, weight_decay});
}

template <typename T>
__global__ void __launch_bounds__(256, 4)
rmsprop_momentum(T* __restrict__ w, T* __restrict__ a, T* __restrict__ v, const T* __restrict__ g,
                 long long n, T rate, T rho, T rest, T epsilon, T momentum, T weight_decay) {
    update(w, a, v, g, n, RmsProp<T>{rate, rho, rest, epsilon, momentum, weight_decay});
}

template <typename T>
__global__ void __launch_bounds__(256, 4)
adagrad(T* __restrict__ w, T* __restrict__ a, const T* __restrict__ g, long long n, T rate, T epsilon,
        T weight_decay) {
    update(w, a, g, n, AdaGrad<T>{rate, epsilon, weight_decay});
}

// Stochastic gradient descent over one flat buffer, in place, with or without momentum.
//
// What:    v ← μ·v - lr·(g + wd·w), then w ← w + v, or with Nesterov w ← w + μ·v - lr·(g + wd·w).
//          All parameters of a device are one buffer, so a step is one launch, not one a layer.
// Bytes:   with momentum 12 read and 8 written an element of float32, without 8 and 4; some 6
//          operations. Memory is the floor: LeNet-5's 61,706 parameters are 1.2 MB and take less than
//          a launch does; AlexNet's 61 million are 1.2 GB, 1.2 ms at 1 TB/s.
// Shape:   one thread a pack of 16 bytes (pack.cuh). Fusing decay, momentum and step into one pass is
//          all there is to gain: separate passes would move the same bytes three times.
// Exact:   compilers fuse μ·v - step into one rounding, so values differ from the CPU's in the last
//          digit.

// instances: sgd_momentum<T, false>, sgd_momentum<T, true>


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
