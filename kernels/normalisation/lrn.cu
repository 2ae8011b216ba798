// Local response normalisation over neighbouring channels, and its gradient.
//
// What:    d = k + alpha·Σ x² over `size` neighbours (alpha is already divided by size), y = x·d^-beta;
//          gx = gy·d^-beta - 2·alpha·beta·x·Σ' gy·x·d^(-beta-1), where Σ' runs over the channels that
//          have this one for a neighbour. Krizhevsky et al., 2012, 3.3.
// Bytes:   forward 8 an element of float32, backward 12: x (and gy) read and y written once. AlexNet's
//          first, 128 × 55 × 55 × 96: 297 MB forward, 62 µs at 4.8 TB/s. Operations: about 30 an
//          element, two of them reciprocal roots, beside some 55 that an H200 could do meanwhile (129
//          instructions for a lane's four elements forward, 185 backward, by NVRTC 13.5 for sm_90). A
//          sum by pooling over channels, as frameworks without such a kernel write it, moves these
//          bytes five times.
// Shape:   one lane a pack of 16 bytes, neighbours by shuffles (normalisation/lrn.cuh). Backward needs d of the
//          neighbours' neighbours: sums of squares first, then sums of gy·x·d^(-beta-1), and twice
//          the reach at a warp's ends. size is a template argument, so that both loops unroll and
//          `run` stays in registers; 5 is built, which is everybody's.
//          Other sizes, segments (channels of a group) that are no multiple of a pack, and arrays
//          that begin anywhere take lrn_plain: a thread an element, neighbours from the cache.
//          Backward then takes two passes, with gy·x·d^(-beta-1) in memory between them. These also
//          take what stands before the normalisation in AlexNet, bias and ReLU.

// instances: lrn<T, 5, true>, lrn<T, 5, false>, lrn_gradient<T, 5, true>, lrn_gradient<T, 5, false>

#include "normalisation/lrn.cuh"

template <typename T, int SIZE, bool THREE_QUARTERS>
__global__ void __launch_bounds__(256, 4)
lrn(const T* __restrict__ x, T* __restrict__ y, int packs, int length, T k, T alpha, T beta) {
    constexpr int V = Pack<T>::size, BEFORE = SIZE / 2, AFTER = (SIZE - 1) / 2;
    constexpr int HALO = packs_for(BEFORE, V);
    const int pack = overlapping_pack<HALO>();
    const bool inside = pack >= 0 && pack < packs;
    const int place = inside ? pack % (length / V) * V : 0;
    const long long first = static_cast<long long>(pack) * V;
    Pack<T> values{}, squares;
    if (inside) values = load(x + first);
#pragma unroll
    for (int i = 0; i < V; ++i) squares.at[i] = values.at[i] * values.at[i];
    const Pack<T> sums = neighbour_sums<BEFORE, AFTER>(squares, place, length);
    if (!inside || !finishes<HALO>()) return;
#pragma unroll
    for (int i = 0; i < V; ++i)
        values.at[i] *= powers<THREE_QUARTERS>(k + alpha * sums.at[i], beta).first;
    store(y + first, values);
}

template <typename T, int SIZE, bool THREE_QUARTERS>
__global__ void __launch_bounds__(256, 4)
lrn_gradient(const T* __restrict__ gy, const T* __restrict__ x, T* __restrict__ gx, int packs,
             int length, T k, T alpha, T beta) {
    constexpr int V = Pack<T>::size, HALO = packs_for(SIZE - 1, V);
    const int pack = overlapping_pack<HALO>();
    const bool inside = pack >= 0 && pack < packs;
    const int place = inside ? pack % (length / V) * V : 0;
    const long long first = static_cast<long long>(pack) * V;
    Pack<T> values{}, slopes{};
    if (inside) {
        values = load(x + first);
        slopes = load(gy + first);
    }
    const Pack<T> gradient =
        response_gradient<SIZE, THREE_QUARTERS>(slopes, values, place, length, k, alpha, beta);
    if (inside && finishes<HALO>()) store(gx + first, gradient);
}

// Element `i` of x after bias and ReLU; `offset` leads to a neighbour.
template <typename T>
__device__ __forceinline__ T value_at(const T* x, const T* bias, int i, int offset, int channels,
                                      bool relu) {
    return activated(x[i + offset], bias == nullptr ? T(0) : bias[i % channels + offset], relu);
}

// d of element i.
template <typename T>
__device__ __forceinline__ T divisor(const T* x, const T* bias, int i, int channels, int length,
                                     int before, int after, bool relu, T k, T alpha) {
    const int place = i % length, last = min(after, length - 1 - place);
    T sum = 0;
    for (int j = max(-before, -place); j <= last; ++j) {
        const T value = value_at(x, bias, i, j, channels, relu);
        sum += value * value;
    }
    return k + alpha * sum;
}

template <typename T>
__device__ __forceinline__ Powers<T> any_powers(T d, T beta) {
    return beta == T(0.75) ? powers<true>(d, beta) : powers<false>(d, beta);
}

template <typename T>
__global__ void __launch_bounds__(256, 4)
lrn_plain(const T* __restrict__ x, const T* __restrict__ bias_or_null, T* __restrict__ y, int n,
          int channels, int length, int before, int after, bool relu, T k, T alpha, T beta) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const T d = divisor(x, bias_or_null, i, channels, length, before, after, relu, k, alpha);
    y[i] = value_at(x, bias_or_null, i, 0, channels, relu) * any_powers(d, beta).first;
}

// terms = gy·x·d^(-beta-1)
template <typename T>
__global__ void __launch_bounds__(256, 4)
lrn_terms(const T* __restrict__ gy, const T* __restrict__ x, const T* __restrict__ bias_or_null,
          T* __restrict__ terms, int n, int channels, int length, int before, int after, bool relu,
          T k, T alpha, T beta) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const T d = divisor(x, bias_or_null, i, channels, length, before, after, relu, k, alpha);
    const T value = value_at(x, bias_or_null, i, 0, channels, relu);
    terms[i] = gy[i] * value * any_powers(d, beta).next;
}

// `factor` is 2·alpha·beta. Where `relu`, the gradient before it: 0 where the value is not above 0.
template <typename T>
__global__ void __launch_bounds__(256, 4)
lrn_plain_gradient(const T* __restrict__ gy, const T* __restrict__ x,
                   const T* __restrict__ bias_or_null, const T* __restrict__ terms,
                   T* __restrict__ gx, int n, int channels, int length, int before, int after,
                   bool relu, T k, T alpha, T beta) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const T d = divisor(x, bias_or_null, i, channels, length, before, after, relu, k, alpha);
    const T value = value_at(x, bias_or_null, i, 0, channels, relu);
    const int place = i % length, last = min(before, length - 1 - place);
    T sum = 0;
    for (int j = max(-after, -place); j <= last; ++j) sum += terms[i + j];
    const T through = T(2) * alpha * beta * value * sum;
    gx[i] = relu && !(value > T(0)) ? T(0) : gy[i] * any_powers(d, beta).first - through;
}
