// NAME: dropout, one thread an element.
//
// x and y: n elements each. Philox makes four random words at once, of which a thread uses one; the
// mask depends on them alone, so that every device draws the same.
#include "gpukit.cuh"
#include "philox.cuh"

template <typename T>
__global__ void NAME(const T* __restrict__ x, T* __restrict__ y, long long n,
                     unsigned long long threshold, T scale, unsigned seed, unsigned seed_high,
                     unsigned layer, unsigned step) {
    const long long i = gpukit::thread_number();
    if (i >= n) return;
    const Words words = philox4x32(i / 4, layer, step, seed, seed_high);
    y[i] = words.at[i % 4] >= threshold ? x[i] * scale : T(0);
}
