// Dropout and the random words behind it.
//
// What:    y = x·scale where the element's Philox word (philox.cuh) is at least `threshold`, else 0,
//          bit for bit what the definition gives: no mask is stored, because the gradient is the same
//          call on gy, which makes the same words again.
// Bytes:   8 an element of float32, x read and y written; a stored mask would add a byte each way.
//          Operations: about 27 an element (100 a block of four, and the comparison), two of them
//          wide multiplications. At 1 TB/s 125 elements pass in a nanosecond, 3.4·10¹² operations a
//          second: beneath what such a card can do, so memory should be the floor still.
// Shape:   one thread a block of four words: it makes no word twice and throws none away. Four floats
//          or words are one 16-byte pack, four doubles two.

#include "pack.cuh"
#include "philox.cuh"

template <typename T>
__global__ void __launch_bounds__(256, 4)
dropout(const T* __restrict__ x, T* __restrict__ y, long long n, unsigned long long threshold,
        T scale, unsigned seed, unsigned seed_high, unsigned layer, unsigned step) {
    constexpr int V = Pack<T>::size;
    const long long block = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    const long long first = block * 4;
    if (first >= n) return;
    const Words words = philox4x32(block, layer, step, seed, seed_high);
    // The threshold is one of 2³² + 1 numbers: 2³² drops every element.
    if (first + 4 <= n && aligned(x) && aligned(y)) {
#pragma unroll
        for (int part = 0; part < 4; part += V) {
            Pack<T> pack = load(x + first + part);
#pragma unroll
            for (int i = 0; i < V; ++i) {
                pack.at[i] = words.at[part + i] >= threshold ? pack.at[i] * scale : T(0);
            }
            store(y + first + part, pack);
        }
    } else {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (first + i < n) y[first + i] = words.at[i] >= threshold ? x[first + i] * scale : T(0);
        }
    }
}

__global__ void __launch_bounds__(256, 4)
philox(unsigned* __restrict__ words, long long n, unsigned seed, unsigned seed_high, unsigned layer,
       unsigned step) {
    const long long block = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    const long long first = block * 4;
    if (first >= n) return;
    const Words made = philox4x32(block, layer, step, seed, seed_high);
    if (first + 4 <= n && aligned(words)) {
        store(words + first, Pack<unsigned>{made.at[0], made.at[1], made.at[2], made.at[3]});
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        if (first + i < n) words[first + i] = made.at[i];
    }
}
