// All inline PTX of gpukit, each piece with its stand-in for the emulator.
//
// A stand-in is what its author reads in the PTX manual ("Parallel Thread Execution ISA", 9.7); only
// a card can confirm the reading:
//
//   piece                        needs   confirmed on a card by
//   copy_async, commit, wait     sm_80   nothing yet
//   to_tf32                      sm_80   nothing yet
//   mma_tf32  16×8×8             sm_80   nothing yet
//   mma_bf16, mma_f16  16×8×16   sm_80   nothing yet
//   load_matrix (ldmatrix)       sm_75   nothing yet
//   quick_rsqrt                  sm_75   nothing yet
//
// Fragments of mma, with g = lane / 4 and t = lane % 4 (C and D: rows g, g + 8; columns 2t, 2t + 1):
//   tf32  a0 (g, t)  a1 (g+8, t)  a2 (g, t+4)  a3 (g+8, t+4)      b0 (t, g)  b1 (t+4, g)
//   16-bit, two to a register, lower half first:
//         a0 (g, 2t)  a1 (g+8, 2t)  a2 (g, 2t+8)  a3 (g+8, 2t+8)  b0 (2t, g)  b1 (2t+8, g)
#pragma once

namespace ptx {

#ifndef GPUKIT_EMULATOR

__device__ __forceinline__ unsigned shared_address(const void* p) {
    return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

// Starts a copy of BYTES (4, 8, 16) from global to shared memory, both aligned to BYTES; the bytes
// after `given` become zero. Older cards copy at once, and as one word where all is given.
template <int BYTES>
__device__ __forceinline__ void copy_async(void* to, const void* from, unsigned given = BYTES) {
#if __CUDA_ARCH__ >= 800
    if constexpr (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
                     "l"(__cvta_generic_to_global(from)), "r"(given) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(to)),
                     "l"(__cvta_generic_to_global(from)), "n"(BYTES), "r"(given) : "memory");
#else
    struct alignas(BYTES) Word {
        unsigned at[BYTES / 4];
    } word{};
    if (given >= BYTES) {
        word = *static_cast<const Word*>(from);
    } else {
#pragma unroll
        for (unsigned i = 0; i < BYTES / 4; ++i)
            if (4 * i < given) word.at[i] = static_cast<const unsigned*>(from)[i];
    }
    *static_cast<Word*>(to) = word;
#endif
}

// Ends a group of copies; wait<N>() returns when all but this thread's N newest groups have landed.
// Other threads see them after a barrier.
__device__ __forceinline__ void copy_commit() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int GROUPS_LEFT> __device__ __forceinline__ void copy_wait() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS_LEFT) : "memory");
#endif
}

// Four (or, transposed, four) 8×8 matrices of 16-bit elements from shared memory: lane l gives the
// address of row l % 8 of matrix l / 8, and gets elements 2t, 2t + 1 of row g of each.
template <bool TRANSPOSED>
__device__ __forceinline__ void load_matrix(unsigned (&d)[4], const void* row) {
    if constexpr (TRANSPOSED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                     : "r"(shared_address(row)) : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                     : "r"(shared_address(row)) : "memory");
}

// 1/√x by the card's own approximation, one instruction with a relative error of at most 2^-22.9.
// Subnormal numbers count as zero, whatever the compiler's options; 0, infinity, NaN and numbers below
// zero give infinity, 0, NaN and NaN. Kernels lean on 1 for 1, to the bit.
__device__ __forceinline__ float quick_rsqrt(float x) {
    float y;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#if __CUDA_ARCH__ >= 800

// float32 rounded to tf32 (10 bits of mantissa, ties away from zero), as a float.
__device__ __forceinline__ float to_tf32(float x) {
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return __uint_as_float(bits);
}

// c += a b over one warp: 16×8 += 16×8 · 8×8.
__device__ __forceinline__ void mma_tf32(float (&c)[4], const float (&a)[4], const float (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])),
                   "r"(__float_as_uint(a[2])), "r"(__float_as_uint(a[3])),
                   "r"(__float_as_uint(b[0])), "r"(__float_as_uint(b[1])));
}

// c += a b over one warp: 16×8 += 16×16 · 16×8, a and b in bfloat16 or half.
__device__ __forceinline__ void mma_bf16(float (&c)[4], const unsigned (&a)[4],
                                         const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void mma_f16(float (&c)[4], const unsigned (&a)[4],
                                        const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif  // sm_80

#else  // GPUKIT_EMULATOR

template <int BYTES>
inline void copy_async(void* to, const void* from, unsigned given = BYTES, GPUKIT_HERE) {
    gpukit_emulator::copy_async(to, from, BYTES, given, file, line);
}
inline void copy_commit() { gpukit_copy_commit(); }
template <int GROUPS_LEFT> inline void copy_wait() { gpukit_copy_wait(GROUPS_LEFT); }

struct MatrixSlot {
    const unsigned short* row;
    unsigned d[4];
};

template <bool TRANSPOSED> GPUKIT_UNSEEN void load_matrices(void** slots, unsigned) {
    for (int lane = 0; lane < 32; ++lane)
        for (int matrix = 0; matrix < 4; ++matrix) {
            const int g = lane / 4, t = lane % 4;
            unsigned pair = 0;
            for (int half = 0; half < 2; ++half) {
                const int row = TRANSPOSED ? 2 * t + half : g, column = TRANSPOSED ? g : 2 * t + half;
                const auto& giver = *static_cast<MatrixSlot*>(slots[8 * matrix + row]);
                pair |= static_cast<unsigned>(giver.row[column]) << 16 * half;
            }
            static_cast<MatrixSlot*>(slots[lane])->d[matrix] = pair;
        }
}

template <bool TRANSPOSED>
inline void load_matrix(unsigned (&d)[4], const void* row, GPUKIT_HERE) {
    if (reinterpret_cast<uintptr_t>(row) % 16)
        gpukit_fault(file, line, "ldmatrix: a row's address is no multiple of 16");
    MatrixSlot slot{static_cast<const unsigned short*>(row), {}};
    gpukit_emulator::together(slot, load_matrices<TRANSPOSED>, "ldmatrix", file, line);
    for (int i = 0; i < 4; ++i) d[i] = slot.d[i];
}

// Rounded right, subnormal numbers too.
inline float quick_rsqrt(float x) { return static_cast<float>(1 / std::sqrt(static_cast<double>(x))); }

// As ptxas makes it (NVRTC 13.0 and 13.5, sm_80 to sm_120): infinities and NaN are not rounded, but
// lose their low bits too. So NaN with no other bit becomes an infinity; subnormals stay.
inline float to_tf32(float x) {
    const unsigned bits = __float_as_uint(x), special = 0x7f800000u;
    return __uint_as_float(((bits & special) == special ? bits : bits + 0x1000u) & 0xffffe000u);
}

inline float from_bf16(unsigned bits) { return __uint_as_float(bits << 16); }

inline float from_f16(unsigned bits) {
    const unsigned exponent = bits >> 10 & 31, mantissa = bits & 0x3ff, sign = bits >> 15 << 31;
    if (exponent == 31) return __uint_as_float(sign | 0x7f800000u | mantissa << 13);
    if (exponent) return __uint_as_float(sign | (exponent + 112) << 23 | mantissa << 13);
    const float small = static_cast<float>(mantissa) * __uint_as_float(0x33800000u);  // 2^-24
    return sign ? -small : small;
}

// What a lane brings to an mma: its registers of a and b as 32-bit words, and c.
struct MmaSlot {
    unsigned a[4], b[2];
    float c[4];
};

enum class Element { TF32, BF16, F16 };

// Element (row, k) of a, or (k, column) of b, from the lane and register that hold it.
template <Element E> GPUKIT_UNSEEN float element(void** slots, bool of_a, int line, int k) {
    constexpr int HALF = E == Element::TF32 ? 4 : 8, EACH = E == Element::TF32 ? 1 : 2;
    const int g = line % 8, t = k % HALF / EACH, late = k / HALF;
    const auto& slot = *static_cast<MmaSlot*>(slots[4 * g + t]);
    const unsigned word = of_a ? slot.a[line / 8 + 2 * late] : slot.b[late];
    if (E == Element::TF32) return __uint_as_float(word & 0xffffe000u);
    const unsigned bits = word >> 16 * (k % 2) & 0xffffu;
    return E == Element::BF16 ? from_bf16(bits) : from_f16(bits);
}

template <Element E> GPUKIT_UNSEEN void multiply(void** slots, unsigned) {
    constexpr int DEPTH = E == Element::TF32 ? 8 : 16;
    for (int row = 0; row < 16; ++row)
        for (int column = 0; column < 8; ++column) {
            auto& slot = *static_cast<MmaSlot*>(slots[4 * (row % 8) + column / 2]);
            float& c = slot.c[column % 2 + 2 * (row / 8)];
            for (int k = 0; k < DEPTH; ++k)
                c += element<E>(slots, true, row, k) * element<E>(slots, false, column, k);
        }
}

template <Element E>
inline void multiply_add(float (&c)[4], MmaSlot slot, const char* file, int line) {
    for (int i = 0; i < 4; ++i) slot.c[i] = c[i];
    gpukit_emulator::together(slot, multiply<E>, "mma", file, line);
    for (int i = 0; i < 4; ++i) c[i] = slot.c[i];
}

inline void mma_tf32(float (&c)[4], const float (&a)[4], const float (&b)[2], GPUKIT_HERE) {
    multiply_add<Element::TF32>(
        c,
        {{__float_as_uint(a[0]), __float_as_uint(a[1]), __float_as_uint(a[2]), __float_as_uint(a[3])},
         {__float_as_uint(b[0]), __float_as_uint(b[1])},
         {}},
        file, line);
}
inline void mma_bf16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], GPUKIT_HERE) {
    multiply_add<Element::BF16>(c, {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}, {}}, file, line);
}
inline void mma_f16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], GPUKIT_HERE) {
    multiply_add<Element::F16>(c, {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}, {}}, file, line);
}

#endif

}  // namespace ptx
