// The activations that conv2d and dense apply to a sum before it leaves its register.
#pragma once

// The launchers' numbers for activation=None, "relu", "sigmoid", "tanh".
enum { NO_ACTIVATION = 0, RELU = 1, SIGMOID = 2, TANH = 3 };

// NaN stays NaN. The logistic function is written with e^-|x|, so that neither side overflows.
template <int ACTIVATION, typename T>
__device__ __forceinline__ T activate(T x) {
    if constexpr (ACTIVATION == RELU) return x < T(0) ? T(0) : x;
    if constexpr (ACTIVATION == SIGMOID) {
        const T small = exp(-fabs(x));
        return (x >= T(0) ? T(1) : small) / (T(1) + small);
    }
    if constexpr (ACTIVATION == TANH) return tanh(x);
    return x;
}
