// Stored images made into what a network takes: y = (x + shift of the image - mean)·scale a channel.
//
// Bytes:   x is uint8, y float: 1 read and 4 written an element of float32; the rest is a few numbers.
//          A batch of 128 × 227 × 227 × 3: 99 MB, 21 µs at 4.8 TB/s. Normalised on the host instead,
//          four bytes an element would have to cross to the card, 79 MB in place of 20: at 25 GB/s
//          3.2 ms in place of 0.8.
// Shape:   a thread makes one pack of 16 bytes from four bytes of x (two, for double): a warp reads 128
//          and writes 512 bytes in a row. Channels and images are counted along, two divisions a
//          pack. mean, scale and shift come from the cache; three loads an element are a third of what
//          it could do meanwhile.
// Exact:   one addition, one subtraction, one product, in this order: the definition's bits.

#include "pack.cuh"

// As many bytes as a pack has elements.
template <int V>
struct alignas(V) Bytes {
    unsigned char at[V];
};

template <typename T>
__global__ void __launch_bounds__(256, 4)
normalise_images(const unsigned char* __restrict__ x, const T* __restrict__ mean,
                 const T* __restrict__ scale, const T* __restrict__ shift_or_null,
                 T* __restrict__ y, int n, int per_image, int channels) {
    constexpr int V = Pack<T>::size;
    const long long first = first_of_pack<T>();
    if (first >= n) return;
    Bytes<V> bytes{};
    const bool whole = first + V <= n && aligned(y) && reinterpret_cast<unsigned long long>(x) % V == 0;
    if (whole) {
        bytes = *reinterpret_cast<const Bytes<V>*>(x + first);
    } else {
#pragma unroll
        for (int i = 0; i < V; ++i)
            if (first + i < n) bytes.at[i] = x[first + i];
    }
    int image = static_cast<int>(first) / per_image;
    int place = static_cast<int>(first) - image * per_image, channel = place % channels;
    Pack<T> pack;
#pragma unroll
    for (int i = 0; i < V; ++i) {
        T value = static_cast<T>(bytes.at[i]);
        // Beyond the last image there is no shift to read.
        if (shift_or_null != nullptr && first + i < n) value += shift_or_null[image * channels + channel];
        pack.at[i] = (value - mean[channel]) * scale[channel];
        if (++channel == channels) channel = 0;
        if (++place == per_image) {
            place = 0;
            ++image;
        }
    }
    if (whole) {
        store(y + first, pack);
    } else {
#pragma unroll
        for (int i = 0; i < V; ++i)
            if (first + i < n) y[first + i] = pack.at[i];
    }
}
