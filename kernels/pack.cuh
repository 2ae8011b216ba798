// Packs: the 16 bytes that one thread moves at a time in kernels that go through arrays element by
// element. A warp then asks for 512 consecutive bytes with one instruction (LDG.E.128) in place of
// four: as many bytes in flight for a quarter of the instructions and of the address arithmetic.
//
//   thread     0           1           2          …        of one block
//   float      0 1 2 3     4 5 6 7     8 9 10 11           elements of a Pack<float>
//   double     0 1         2 3         4 5                 elements of a Pack<double>
//
// A view of a buffer may begin anywhere, so a kernel asks `aligned` first and goes one by one where
// it must; the answer is the same for all threads, and so costs no divergence.

#pragma once

template <typename T>
struct alignas(16) Pack {
    static constexpr int size = 16 / sizeof(T);
    T at[size];
};

// What one load brings: 16 bytes where an operand is packed, else one number.
template <typename T, bool PACKED>
struct alignas(PACKED ? 16 : sizeof(T)) Load {
    static constexpr int size = PACKED ? 16 / sizeof(T) : 1;
    T at[size];
};

__device__ __forceinline__ bool aligned(const void* a) {
    return reinterpret_cast<unsigned long long>(a) % 16 == 0;
}

template <typename T>
__device__ __forceinline__ Pack<T> load(const T* from) {
    return *reinterpret_cast<const Pack<T>*>(from);
}

template <typename T>
__device__ __forceinline__ void store(T* to, const Pack<T>& pack) {
    *reinterpret_cast<Pack<T>*>(to) = pack;
}

// The first element of this thread's pack, where block b holds packs b·blockDim … of the array.
template <typename T>
__device__ __forceinline__ long long first_of_pack() {
    return (static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x) * Pack<T>::size;
}
