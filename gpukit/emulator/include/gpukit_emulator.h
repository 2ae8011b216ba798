// CUDA C for g++: included before every kernel source.
//
// __global__ and __device__ mean nothing here, a CUDA thread is a fiber, and what threads do
// together (barriers, shuffles, votes, atomics) is a call into the runtime that knows its line.
#pragma once

#include <type_traits>
#include <utility>

// libstdc++'s special functions (Bessel, zeta …) take g++ longer than most kernels, which use none.
#ifdef _GLIBCXX_USE_STD_SPEC_FUNCS
#undef _GLIBCXX_USE_STD_SPEC_FUNCS
#define _GLIBCXX_USE_STD_SPEC_FUNCS 0
#endif
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "gpukit_abi.h"

#define GPUKIT_EMULATOR 1

#ifdef GPUKIT_NVIDIA_TYPES
#include <vector_types.h>
#include <vector_functions.h>
#else
#include "gpukit_vectors.h"
#endif

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __constant__
#undef __forceinline__
#undef __launch_bounds__
#undef __align__
#undef __grid_constant__
#define __global__ static
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__

#define threadIdx (gpukit_emulator::now.thread)
#define blockIdx (gpukit_emulator::now.block)
#define blockDim (gpukit_emulator::now.block_dim)
#define gridDim (gpukit_emulator::now.grid_dim)
constexpr int warpSize = 32;

// Asked for at the call: which line of which file.
#define GPUKIT_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

#undef assert
#define assert(condition) \
    ((condition) ? (void)0 : gpukit_fault(__FILE__, __LINE__, "assertion failed: %s", #condition))

static inline void __trap(GPUKIT_HERE) { gpukit_fault(file, line, "trap"); }

#include "gpukit_intrinsics.h"
#include "gpukit_atomics.h"
#include "gpukit_warp.h"

static inline void __syncthreads(GPUKIT_HERE) {
    gpukit_barrier(gpukit_emulator::PLAIN, 0, "__syncthreads()", file, line);
}
static inline int __syncthreads_count(int predicate, GPUKIT_HERE) {
    return gpukit_barrier(gpukit_emulator::COUNT, predicate, "__syncthreads_count()", file, line);
}
static inline int __syncthreads_and(int predicate, GPUKIT_HERE) {
    return gpukit_barrier(gpukit_emulator::AND, predicate, "__syncthreads_and()", file, line);
}
static inline int __syncthreads_or(int predicate, GPUKIT_HERE) {
    return gpukit_barrier(gpukit_emulator::OR, predicate, "__syncthreads_or()", file, line);
}

namespace gpukit_emulator {

// What a parameter is, in a letter: P pointer, K to const; f d b, i1 … u8 for integers, s and
// the size for structs.
template <class T> struct Code {
    static void write(char*& to) {
        if constexpr (std::is_pointer_v<T>) {
            *to++ = 'P';
            using Pointee = std::remove_pointer_t<T>;
            if constexpr (std::is_const_v<Pointee>) *to++ = 'K';
            Code<std::remove_cv_t<Pointee>>::write(to);
        } else if constexpr (std::is_same_v<T, float>) {
            *to++ = 'f';
        } else if constexpr (std::is_same_v<T, double>) {
            *to++ = 'd';
        } else if constexpr (std::is_same_v<T, bool>) {
            *to++ = 'b';
        } else if constexpr (std::is_integral_v<T>) {
            *to++ = std::is_signed_v<T> ? 'i' : 'u';
            *to++ = static_cast<char>('0' + sizeof(T));
        } else {
            *to++ = 's';
            for (size_t unit = 1000; unit; unit /= 10) {
                if (sizeof(T) >= unit) *to++ = static_cast<char>('0' + sizeof(T) / unit % 10);
            }
        }
    }
};

// What the runtime runs for an instance, and the truth about its parameters.
template <auto kernel> struct Thunk;
template <class... A, void (*kernel)(A...)> struct Thunk<kernel> {
    static void run(void** arguments) { run(arguments, std::index_sequence_for<A...>()); }
    static const char* signature() {
        static char text[8 * sizeof...(A) + 2];
        char* to = text;
        ((Code<std::remove_cv_t<A>>::write(to), *to++ = ' '), ...);
        *to = 0;
        return text;
    }

private:
    template <size_t... I> static void run(void** a, std::index_sequence<I...>) {
        do kernel(*static_cast<std::remove_cv_t<A>*>(a[I])...);
        while (gpukit_next_thread());
        (void)a;
    }
};

// Of __launch_bounds__(threads, blocks …), the threads.
template <class... Others> constexpr unsigned first_of(long long threads, Others...) {
    return static_cast<unsigned>(threads);
}

// A shared array: memory of the block, found by the address of the key.
template <class T> inline T& shared(const void* key, const char* name, size_t align) {
    return *static_cast<T*>(
        gpukit_static_shared(key, sizeof(T), align > alignof(T) ? align : alignof(T), name));
}

}  // namespace gpukit_emulator
