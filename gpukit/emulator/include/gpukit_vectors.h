// CUDA's short vectors, aligned as on a card (NVIDIA's own header where half or bf16 are in use).
#pragma once

// In a trace a vector is made before it is stored, so that it is stored whole.
#ifdef GPUKIT_TRACE
#define GPUKIT_WHOLE(v) asm("" : "+m"(v))
#else
#define GPUKIT_WHOLE(v) static_cast<void>(v)
#endif

#define GPUKIT_VECTOR2(T, N, A) \
    struct alignas(A) N##2 { T x, y; }; \
    static inline N##2 make_##N##2(T x, T y) { N##2 v{x, y}; GPUKIT_WHOLE(v); return v; }
#define GPUKIT_VECTOR3(T, N) \
    struct N##3 { T x, y, z; }; \
    static inline N##3 make_##N##3(T x, T y, T z) { return {x, y, z}; }
#define GPUKIT_VECTOR4(T, N, A) \
    struct alignas(A) N##4 { T x, y, z, w; }; \
    static inline N##4 make_##N##4(T x, T y, T z, T w) { \
        N##4 v{x, y, z, w}; \
        GPUKIT_WHOLE(v); \
        return v; \
    }
#define GPUKIT_VECTORS(T, N) \
    GPUKIT_VECTOR2(T, N, 2 * sizeof(T)) \
    GPUKIT_VECTOR3(T, N) \
    GPUKIT_VECTOR4(T, N, (sizeof(T) > 4 ? 16 : 4 * sizeof(T)))

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef long long longlong;
typedef unsigned long long ulonglong;

GPUKIT_VECTORS(signed char, char)
GPUKIT_VECTORS(unsigned char, uchar)
GPUKIT_VECTORS(short, short)
GPUKIT_VECTORS(unsigned short, ushort)
GPUKIT_VECTORS(int, int)
GPUKIT_VECTORS(unsigned, uint)
GPUKIT_VECTORS(long long, longlong)
GPUKIT_VECTORS(unsigned long long, ulonglong)
GPUKIT_VECTORS(float, float)
GPUKIT_VECTORS(double, double)

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
