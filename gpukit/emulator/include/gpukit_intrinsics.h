// Arithmetic and bit functions that CUDA has and C++ has not.
#pragma once

#define GPUKIT_F static inline __attribute__((unused))

template <class A, class B> GPUKIT_F std::common_type_t<A, B> min(A a, B b) {
    using T = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<T>) return fmin(T(a), T(b));
    else return T(b) < T(a) ? T(b) : T(a);
}
template <class A, class B> GPUKIT_F std::common_type_t<A, B> max(A a, B b) {
    using T = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<T>) return fmax(T(a), T(b));
    else return T(a) < T(b) ? T(b) : T(a);
}

template <class To, class From> GPUKIT_F To gpukit_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "as many bits");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
GPUKIT_F float __int_as_float(int x) { return gpukit_bits<float>(x); }
GPUKIT_F int __float_as_int(float x) { return gpukit_bits<int>(x); }
GPUKIT_F float __uint_as_float(unsigned x) { return gpukit_bits<float>(x); }
GPUKIT_F unsigned __float_as_uint(float x) { return gpukit_bits<unsigned>(x); }
GPUKIT_F double __longlong_as_double(long long x) { return gpukit_bits<double>(x); }
GPUKIT_F long long __double_as_longlong(double x) { return gpukit_bits<long long>(x); }

GPUKIT_F unsigned __umulhi(unsigned a, unsigned b) {
    return static_cast<unsigned>(static_cast<unsigned long long>(a) * b >> 32);
}
GPUKIT_F int __mulhi(int a, int b) {
    return static_cast<int>(static_cast<long long>(a) * b >> 32);
}
GPUKIT_F unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}
GPUKIT_F int __mul24(int a, int b) { return (a << 8 >> 8) * (b << 8 >> 8); }
GPUKIT_F int __popc(unsigned x) { return __builtin_popcount(x); }
GPUKIT_F int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
GPUKIT_F int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
GPUKIT_F int __clzll(long long x) {
    return x ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64;
}
GPUKIT_F int __ffs(int x) { return __builtin_ffs(x); }
GPUKIT_F unsigned __brev(unsigned x) {
    unsigned y = 0;
    for (int i = 0; i < 32; ++i) y |= (x >> i & 1u) << (31 - i);
    return y;
}

GPUKIT_F float rsqrtf(float x) { return 1.0f / sqrtf(x); }
GPUKIT_F double rsqrt(double x) { return 1.0 / sqrt(x); }
GPUKIT_F float rsqrt(float x) { return rsqrtf(x); }
// glibc declares these names itself.
#define __expf(x) expf(x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __powf(x, y) powf(x, y)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
GPUKIT_F float __fdividef(float x, float y) { return x / y; }
GPUKIT_F float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f; }
GPUKIT_F float __frcp_rn(float x) { return 1.0f / x; }
GPUKIT_F float __fsqrt_rn(float x) { return sqrtf(x); }
GPUKIT_F float __fdiv_rn(float x, float y) { return x / y; }
GPUKIT_F double __ddiv_rn(double x, double y) { return x / y; }
GPUKIT_F float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
GPUKIT_F double __fma_rn(double x, double y, double z) { return fma(x, y, z); }
// Rounded by themselves: the compiler must not fuse them with a neighbour.
GPUKIT_F float gpukit_apart(float x) { asm("" : "+m"(x)); return x; }
GPUKIT_F double gpukit_apart(double x) { asm("" : "+m"(x)); return x; }
GPUKIT_F float __fmul_rn(float x, float y) { return gpukit_apart(x * y); }
GPUKIT_F float __fadd_rn(float x, float y) { return gpukit_apart(x + y); }
GPUKIT_F float __fsub_rn(float x, float y) { return gpukit_apart(x - y); }
GPUKIT_F double __dmul_rn(double x, double y) { return gpukit_apart(x * y); }
GPUKIT_F double __dadd_rn(double x, double y) { return gpukit_apart(x + y); }
GPUKIT_F double __dsub_rn(double x, double y) { return gpukit_apart(x - y); }
GPUKIT_F int __float2int_rn(float x) { return static_cast<int>(nearbyintf(x)); }
GPUKIT_F int __float2int_rd(float x) { return static_cast<int>(floorf(x)); }
GPUKIT_F int __float2int_rz(float x) { return static_cast<int>(x); }
GPUKIT_F unsigned __float2uint_rn(float x) { return static_cast<unsigned>(nearbyintf(x)); }
GPUKIT_F float __int2float_rn(int x) { return static_cast<float>(x); }
GPUKIT_F float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
GPUKIT_F float __double2float_rn(double x) { return static_cast<float>(x); }

template <class T> GPUKIT_F T __ldg(const T* p) { return *p; }
template <class T> GPUKIT_F T __ldcg(const T* p) { return *p; }
template <class T> GPUKIT_F T __ldca(const T* p) { return *p; }
template <class T> GPUKIT_F T __ldcs(const T* p) { return *p; }
template <class T> GPUKIT_F void __stcg(T* p, T v) { *p = v; }
template <class T> GPUKIT_F void __stcs(T* p, T v) { *p = v; }

GPUKIT_F void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
GPUKIT_F void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
// Nanoseconds, for kernels that wait.
GPUKIT_F long long clock64() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}
