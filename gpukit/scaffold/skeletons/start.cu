// NAME: the start of a kernel for PRIMITIVE: as it is, it copies what the launcher worked out.
//
// x and y: n elements each. Replace it by your own: pointers to what PRIMITIVE takes and gives, and
// the lengths and settings that it needs; docs/tutorial.md of gpukit writes one from an empty file.
// instances: NAME<T>, NAME<bool>, NAME<unsigned char>, NAME<int>, NAME<unsigned int>, NAME<long long>
#include "gpukit.cuh"

template <typename T>
__global__ void NAME(const T* __restrict__ x, T* __restrict__ y, long long n) {
    const long long i = gpukit::thread_number();
    if (i >= n) return;
    y[i] = x[i];
}
