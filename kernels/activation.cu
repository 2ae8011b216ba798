// Activations that look at one element at a time, forward and backward.
//
// What:    y = f(x), and gx = g(gy, x or y), for any shape: an array is a run of n numbers.
// Bytes:   forward reads and writes each element once, 8 n bytes in float32; backward reads two
//          arrays and writes one, 12 n. Operations: 1 (ReLU) to some 30 (tanh) an element, against
//          the 100 or so that a card could do while the bytes pass. So memory is the floor: LeNet-5's
//          first ReLU, 128 images of 24 × 24 × 6, is 3.5 MB, 3.5 µs at 1 TB/s; a launch costs as much.
// Shape:   one thread a pack of 16 bytes (pack.cuh), no loop, no shared memory, few registers: with
//          nothing to reuse, all that helps is many loads in flight. Fusing an activation into the
//          convolution before it, as conv2d does, saves these bytes altogether and is the better way.
// Exact:   exp, tanh, expm1 and log1p are the card's own and may differ from the CPU's by 2 ulp.
//
// One kernel takes the function as a type, so that each is compiled on its own and inlined:
// unary<float, Relu>. `a` is the function's setting (slope, alpha), not looked at by the others.

// instances: unary<T, Relu>, unary<T, LeakyRelu>, unary<T, Elu>, unary<T, Sigmoid>, unary<T, Tanh>
// instances: unary<T, Softplus>, gradient<T, ReluGrad>, gradient<T, LeakyReluGrad>
// instances: gradient<T, EluGrad>, gradient<T, SigmoidGrad>, gradient<T, TanhGrad>
// instances: gradient<T, SoftplusGrad>, unary<T, Softsign>, gradient<T, SoftsignGrad>

#include "pack.cuh"

template <typename T>
__device__ __forceinline__ T logistic(T x) {
    const T small = exp(-fabs(x));  // never above 1: neither side overflows
    return (x >= 0 ? T(1) : small) / (1 + small);
}

// `x < 0 ? 0 : x` and not fmax: a NaN stays a NaN.

struct Relu {
    template <typename T> static __device__ T of(T x, T) { return x < 0 ? T(0) : x; }
};
struct LeakyRelu {
    template <typename T> static __device__ T of(T x, T slope) { return x > 0 ? x : slope * x; }
};
struct Elu {
    template <typename T> static __device__ T of(T x, T alpha) {
        return x > 0 ? x : alpha * expm1(x);
    }
};
struct Sigmoid {
    template <typename T> static __device__ T of(T x, T) { return logistic(x); }
};
struct Tanh {
    template <typename T> static __device__ T of(T x, T) { return tanh(x); }
};
struct Softplus {
    template <typename T> static __device__ T of(T x, T) {
        return (x < 0 ? T(0) : x) + log1p(exp(-fabs(x)));
    }
};
struct Softsign {
    template <typename T> static __device__ T of(T x, T) { return x / (1 + fabs(x)); }
};

// Gradients: `s` is what the forward pass kept, y where that is enough, else x.

struct ReluGrad {
    template <typename T> static __device__ T of(T gy, T y, T) { return y > 0 ? gy : T(0); }
};
struct LeakyReluGrad {
    template <typename T> static __device__ T of(T gy, T x, T slope) {
        return x > 0 ? gy : slope * gy;
    }
};
struct EluGrad {
    template <typename T> static __device__ T of(T gy, T y, T alpha) {
        return y > 0 ? gy : gy * (y + alpha);
    }
};
struct SigmoidGrad {
    template <typename T> static __device__ T of(T gy, T y, T) { return gy * (y * (1 - y)); }
};
struct TanhGrad {
    template <typename T> static __device__ T of(T gy, T y, T) {
        return gy * ((1 - y) * (1 + y));  // not 1 - y²: this keeps digits near ±1
    }
};
struct SoftplusGrad {
    template <typename T> static __device__ T of(T gy, T x, T) { return gy * logistic(x); }
};
struct SoftsignGrad {
    template <typename T> static __device__ T of(T gy, T x, T) {
        const T below = 1 + fabs(x);
        return gy / below / below;  // whose square might overflow
    }
};

template <typename T, typename F>
__global__ void __launch_bounds__(256, 4)
unary(const T* __restrict__ x, T* __restrict__ y, long long n, T a) {
    constexpr int V = Pack<T>::size;
    const long long first = first_of_pack<T>();
    if (first + V <= n && aligned(x) && aligned(y)) {
        Pack<T> pack = load(x + first);
#pragma unroll
        for (int i = 0; i < V; ++i) pack.at[i] = F::of(pack.at[i], a);
        store(y + first, pack);
    } else {
        for (long long i = first; i < first + V && i < n; ++i) y[i] = F::of(x[i], a);
    }
}

template <typename T, typename F>
__global__ void __launch_bounds__(256, 4)
gradient(const T* __restrict__ gy, const T* __restrict__ s, T* __restrict__ gx, long long n, T a) {
    constexpr int V = Pack<T>::size;
    const long long first = first_of_pack<T>();
    if (first + V <= n && aligned(gy) && aligned(s) && aligned(gx)) {
        Pack<T> pack = load(gy + first);
        const Pack<T> kept = load(s + first);
#pragma unroll
        for (int i = 0; i < V; ++i) pack.at[i] = F::of(pack.at[i], kept.at[i], a);
        store(gx + first, pack);
    } else {
        for (long long i = first; i < first + V && i < n; ++i) gx[i] = F::of(gy[i], s[i], a);
    }
}
