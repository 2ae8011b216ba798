// NAME: where the largest value along an axis is, one thread a result.
//
// x (outer,length,inner) -> places (outer,inner): the first of equal ones; the first NaN wins.
#include "gpukit.cuh"

template <typename T>
__global__ void NAME(const T* __restrict__ x, long long* __restrict__ places, long long results,
                     long long length, long long inner) {
    const long long i = gpukit::thread_number();
    if (i >= results) return;
    const T* from = x + i / inner * length * inner + i % inner;
    T best = from[0];
    long long place = 0;
    for (long long k = 1; k < length; k++) {
        const T v = from[k * inner];
        const bool is_first_nan = v != v && best == best;
        if (v > best || is_first_nan) {
            best = v;
            place = k;
        }
    }
    places[i] = place;
}
