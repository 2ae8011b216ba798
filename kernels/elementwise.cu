// Arithmetic element by element, with NumPy's broadcasting.
//
// What:    z = f(x, y) or y = f(x). x and y are contiguous; broadcasting repeats one along some axes.
// Bytes:   z = x + y over n float32: reads 8 n, writes 4 n; a scalar operand saves 4 n. One operation
//          an element: memory is the floor, 12 µs for a million elements at 1 TB/s.
// Shape:   three ways, because most calls are the simple ones.
//            binary   same shapes:      packs of 16 bytes (pack.cuh), nothing to compute but f
//            scalar   one operand is one number: the same, from a kernel argument
//            strided  any broadcasting: one thread an element, which finds its operands by its
//                     coordinates; a repeated axis has stride 0:
//
//              z (3,4) = x (3,4) + y (4,)     sizes 3 4, strides of x 4 1, of y 0 1
//
//          The launcher merges neighbouring axes that repeat alike ((2,3,4)+(4,) is (6,4)+(4,)), so
//          four axes are enough for nearly everything and two divisions for the common cases; for
//          more than four the launcher repeats operands in memory first (shape.cu). Repeated elements
//          come from the cache. Indices I are 32 bits wide where those are enough, else 64.

// instances: unary<T, Negative>, unary<T, Exp>, unary<T, Log>, unary<T, Sqrt>, unary<T, Square>
// instances: unary<T, Absolute>, unary<T, Sign>
// instances: binary<T, Add>, binary<T, Subtract>, binary<T, Multiply>, binary<T, Divide>
// instances: binary<T, Power>, binary<T, Maximum>, binary<T, Minimum>
// instances: scalar<T, Add, false>, scalar<T, Add, true>, scalar<T, Subtract, false>
// instances: scalar<T, Subtract, true>, scalar<T, Multiply, false>, scalar<T, Multiply, true>
// instances: scalar<T, Divide, false>, scalar<T, Divide, true>, scalar<T, Power, false>
// instances: scalar<T, Power, true>, scalar<T, Maximum, false>, scalar<T, Maximum, true>
// instances: scalar<T, Minimum, false>, scalar<T, Minimum, true>
// instances: strided<T, Add, unsigned>, strided<T, Add, unsigned long long>
// instances: strided<T, Subtract, unsigned>, strided<T, Subtract, unsigned long long>
// instances: strided<T, Multiply, unsigned>, strided<T, Multiply, unsigned long long>
// instances: strided<T, Divide, unsigned>, strided<T, Divide, unsigned long long>
// instances: strided<T, Power, unsigned>, strided<T, Power, unsigned long long>
// instances: strided<T, Maximum, unsigned>, strided<T, Maximum, unsigned long long>
// instances: strided<T, Minimum, unsigned>, strided<T, Minimum, unsigned long long>

#include "pack.cuh"

// Comparisons are written so that a NaN on either side wins, as in NumPy.

struct Add {
    template <typename T> static __device__ T of(T x, T y) { return x + y; }
};
struct Subtract {
    template <typename T> static __device__ T of(T x, T y) { return x - y; }
};
struct Multiply {
    template <typename T> static __device__ T of(T x, T y) { return x * y; }
};
struct Divide {
    template <typename T> static __device__ T of(T x, T y) { return x / y; }
};
struct Power {
    template <typename T> static __device__ T of(T x, T y) { return pow(x, y); }
};
struct Maximum {
    template <typename T> static __device__ T of(T x, T y) { return x > y || x != x ? x : y; }
};
struct Minimum {
    template <typename T> static __device__ T of(T x, T y) { return x < y || x != x ? x : y; }
};

struct Negative {
    template <typename T> static __device__ T of(T x) { return -x; }
};
struct Exp {
    template <typename T> static __device__ T of(T x) { return exp(x); }
};
struct Log {
    template <typename T> static __device__ T of(T x) { return log(x); }
};
struct Sqrt {
    template <typename T> static __device__ T of(T x) { return sqrt(x); }
};
struct Square {
    template <typename T> static __device__ T of(T x) { return x * x; }
};
struct Absolute {
    template <typename T> static __device__ T of(T x) { return fabs(x); }
};
struct Sign {
    template <typename T> static __device__ T of(T x) {
        return x > 0 ? T(1) : x < 0 ? T(-1) : x != x ? x : T(0);
    }
};

template <typename T, typename F>
__global__ void __launch_bounds__(256, 4)
unary(const T* __restrict__ x, T* __restrict__ y, long long n) {
    constexpr int V = Pack<T>::size;
    const long long first = first_of_pack<T>();
    if (first + V <= n && aligned(x) && aligned(y)) {
        Pack<T> pack = load(x + first);
#pragma unroll
        for (int i = 0; i < V; ++i) pack.at[i] = F::of(pack.at[i]);
        store(y + first, pack);
    } else {
        for (long long i = first; i < first + V && i < n; ++i) y[i] = F::of(x[i]);
    }
}

template <typename T, typename F>
__global__ void __launch_bounds__(256, 4)
binary(const T* __restrict__ x, const T* __restrict__ y, T* __restrict__ z, long long n) {
    constexpr int V = Pack<T>::size;
    const long long first = first_of_pack<T>();
    if (first + V <= n && aligned(x) && aligned(y) && aligned(z)) {
        Pack<T> pack = load(x + first);
        const Pack<T> other = load(y + first);
#pragma unroll
        for (int i = 0; i < V; ++i) pack.at[i] = F::of(pack.at[i], other.at[i]);
        store(z + first, pack);
    } else {
        for (long long i = first; i < first + V && i < n; ++i) z[i] = F::of(x[i], y[i]);
    }
}

// FIRST: the number is the left operand, z = f(number, x); else z = f(x, number).
template <typename T, typename F, bool FIRST>
__global__ void __launch_bounds__(256, 4)
scalar(const T* __restrict__ x, T number, T* __restrict__ z, long long n) {
    constexpr int V = Pack<T>::size;
    const long long first = first_of_pack<T>();
    if (first + V <= n && aligned(x) && aligned(z)) {
        Pack<T> pack = load(x + first);
#pragma unroll
        for (int i = 0; i < V; ++i) {
            pack.at[i] = FIRST ? F::of(number, pack.at[i]) : F::of(pack.at[i], number);
        }
        store(z + first, pack);
    } else {
        for (long long i = first; i < first + V && i < n; ++i) {
            z[i] = FIRST ? F::of(number, x[i]) : F::of(x[i], number);
        }
    }
}

// z (n0,n1,n2,n3), row-major; x and y by their strides in elements, 0 along a repeated axis.
template <typename T, typename F, typename I>
__global__ void __launch_bounds__(256, 4)
strided(const T* __restrict__ x, const T* __restrict__ y, T* __restrict__ z, I n, I n1, I n2, I n3,
        I x0, I x1, I x2, I x3, I y0, I y1, I y2, I y3) {
    const I i = static_cast<I>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= n) return;
    // i = ((i0·n1 + i1)·n2 + i2)·n3 + i3
    I rest = i;
    const I i3 = rest % n3;
    rest /= n3;
    const I i2 = rest % n2;
    rest /= n2;
    const I i1 = rest % n1;
    const I i0 = rest / n1;
    z[i] = F::of(x[i0 * x0 + i1 * x1 + i2 * x2 + i3 * x3], y[i0 * y0 + i1 * y1 + i2 * y2 + i3 * y3]);
}
