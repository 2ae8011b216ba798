// What follows AlexNet's first convolutions, in one pass: y = max-pool(LRN(ReLU(x + bias))), and back.
//
// Bytes:   x is what the bare convolution wrote, (N,H,W,C). Forward reads it once and writes a quarter
//          as many values with a byte of index each: 5.3 bytes an element of x in float32, where four
//          separate passes move 29 (bias + ReLU 8, LRN 8, pooling 5.3, and the convolution's own
//          epilogue cannot help). Conv1 at batch 128, 37 million elements: 195 MB, 41 µs at 4.8 TB/s.
//          Backward reads x, and the pooled gradient with its index, and writes gx: 9.3 bytes an
//          element, 345 MB, 72 µs; nothing between is kept, ReLU and LRN are worked out again, some 35
//          operations an element. Separate passes: 12 for LRN, 9.3 for pooling, 12 for ReLU.
// Forward: windows 3×3, stride 2. A lane has one pack of channels of two outputs side by side and
//          walks down the image. Each row it loads five pixels, normalises them once (neighbouring
//          channels by shuffles, normalisation/lrn.cuh) and keeps for each output the row's largest value:
//
//              columns   0   1   2   3   4          a window is the largest of three rows' results;
//              output 0 [. . . . .]                 the third of them is the first of the window
//              output 1         [. . . . .]         below: two new rows an output row
//
//          So a pixel is normalised 5/4 times, not 9/4; what is read twice comes from the cache. Walks
//          are cut into bands until they fill a card, which costs a row a band.
// Back:    a lane a pack of gx. It gathers what the windows over its pixel hand back, as pool.cu's
//          gradient does: no atomics, windows in the definition's order. Then LRN's gradient, which
//          needs the neighbours' gathered gradients: shuffles again. Any window of up to 256 cells.
// Counted: a row of a forward walk, 20 values a lane, is 626 instructions on sm_90 (NVRTC 13.5; 639 with
//          CuPy's -ftz=true), a hundred of them additions, nearly as many comparisons, 40 reciprocal
//          roots; 79 registers, six blocks a multiprocessor. IEEE's square root alone would add some
//          250. Conv1's output at batch 128, in two columns, is 84,000 rows of warps: 51 µs of the
//          card's instruction slots (132 × 4 a cycle, 1.98 GHz, if none is lost), where bytes ask 41.
//          gx is read once more for the bias gradient (conv/bias.cu).
//
// Other windows, sizes of neighbourhood and odd channels: the launcher takes normalisation/lrn.cu's kernels for
// single elements, which know bias and ReLU too, and pool.cu's.

// instances: bias_relu_lrn_pool<T, 5, true>, bias_relu_lrn_pool<T, 5, false>
// instances: bias_relu_lrn_pool_gradient<T, 5, true>, bias_relu_lrn_pool_gradient<T, 5, false>

#include "covering.cuh"
#include "normalisation/lrn.cuh"

constexpr int WINDOW = 3, STRIDE = 2;
constexpr int OUTPUTS = 2;  // of a lane, side by side
constexpr int COLUMNS = (OUTPUTS - 1) * STRIDE + WINDOW;

// The indices of a pack of outputs.
template <int V>
struct alignas(V) Cells {
    unsigned char at[V];
};

template <typename T>
__device__ __forceinline__ Pack<T> bias_of(const T* bias, int channel) {
    Pack<T> pack{};
    if (bias != nullptr) {
#pragma unroll
        for (int i = 0; i < Pack<T>::size; ++i) pack.at[i] = bias[channel + i];
    }
    return pack;
}

// The largest value so far of each of a lane's outputs and channels, and its cell.
template <typename T>
struct Largest {
    static constexpr int V = Pack<T>::size;
    T value[OUTPUTS][V];
    int cell[OUTPUTS][V];

    // A NaN beats all but an earlier NaN: !(value <= best) is true for it, best == best false.
    __device__ __forceinline__ void take(int output, int i, T other, int its_cell, bool fresh) {
        if (fresh || (!(other <= value[output][i]) && value[output][i] == value[output][i])) {
            value[output][i] = other;
            cell[output][i] = its_cell;
        }
    }
};

// What a lane keeps while it walks.
template <typename T>
struct Walk {
    const T* image;  // at the lane's channels
    Pack<T> bias;
    int first, width, channels;  // first column; of the image
    int place, length;           // in the segment of channels
    bool inside, relu;
    T k, alpha, beta;
};

// The largest values in one row of a lane's windows, cells numbered within the row.
template <int SIZE, bool THREE_QUARTERS, typename T>
__device__ __forceinline__ Largest<T> largest_in_row(const Walk<T>& walk, int row) {
    constexpr int V = Pack<T>::size;
    Pack<T> pixels[COLUMNS];
    const T* const line = walk.image + (row * walk.width + walk.first) * walk.channels;
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j) {
        const int column = walk.first + j;
        pixels[j] = {};
        if (walk.inside && column >= 0 && column < walk.width) pixels[j] = load(line + j * walk.channels);
    }
    // Below all: of cells as large as that, the first wins that is a pixel, not left of the image.
    Largest<T> found;
#pragma unroll
    for (int output = 0; output < OUTPUTS; ++output)
#pragma unroll
        for (int i = 0; i < V; ++i) {
            found.value[output][i] = -gpukit::infinity<T>();
            found.cell[output][i] = max(-(walk.first + output * STRIDE), 0);
        }
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j) {
        Pack<T> squares;
#pragma unroll
        for (int i = 0; i < V; ++i) {
            pixels[j].at[i] = activated(pixels[j].at[i], walk.bias.at[i], walk.relu);
            squares.at[i] = pixels[j].at[i] * pixels[j].at[i];
        }
        const Pack<T> sums =
            neighbour_sums<SIZE / 2, (SIZE - 1) / 2>(squares, walk.place, walk.length);
        const int column = walk.first + j;
        if (column < 0 || column >= walk.width) continue;
#pragma unroll
        for (int i = 0; i < V; ++i) {
            const T d = walk.k + walk.alpha * sums.at[i];
            const T normal = pixels[j].at[i] * powers<THREE_QUARTERS>(d, walk.beta).first;
#pragma unroll
            for (int output = 0; output < OUTPUTS; ++output) {
                const int s = j - output * STRIDE;
                if (s >= 0 && s < WINDOW) found.take(output, i, normal, s, s == 0);
            }
        }
    }
    return found;
}

// blockIdx.y is the band of `band` rows of y; a lane's number is ((n·⌈Q/2⌉ + pair)·C/V + pack).
template <typename T, int SIZE, bool THREE_QUARTERS>
__global__ void __launch_bounds__(128, sizeof(T) == 4 ? 6 : 4)
bias_relu_lrn_pool(const T* __restrict__ x, const T* __restrict__ bias_or_null, T* __restrict__ y,
                   unsigned char* __restrict__ index, int images, int length,
                   const __grid_constant__ Pool pool, int band, bool relu, T k, T alpha, T beta) {
    constexpr int V = Pack<T>::size, HALO = packs_for(SIZE / 2, V);
    const int number = overlapping_pack<HALO>(), packs = pool.c / V, pairs = (pool.q + 1) / OUTPUTS;
    const bool inside = number >= 0 && number < images * pairs * packs;
    const int mine = inside ? number : 0;
    const int channel = mine % packs * V, pair = mine / packs % pairs, image = mine / packs / pairs;

    const long long pixels = static_cast<long long>(pool.h) * pool.w;
    const Walk<T> walk{x + image * pixels * pool.c + channel,
                       bias_of(bias_or_null, channel),
                       pair * OUTPUTS * STRIDE - pool.left,
                       pool.w,
                       pool.c,
                       channel % length,
                       length,
                       inside,
                       relu,
                       k,
                       alpha,
                       beta};
    const int begin = blockIdx.y * band, end = min(begin + band, pool.p);
    Largest<T> shared_row{};  // the row that a window shares with the one above it
    for (int a = begin; a < end; ++a) {
        const int row = a * STRIDE - pool.top;
        Largest<T> best = shared_row;
        bool fresh = a == begin || row < 0;
#pragma unroll 1
        for (int r = a > begin ? 1 : 0; r < WINDOW; ++r) {
            if (row + r < 0 || row + r >= pool.h) continue;
            const Largest<T> found = largest_in_row<SIZE, THREE_QUARTERS>(walk, row + r);
#pragma unroll
            for (int output = 0; output < OUTPUTS; ++output)
#pragma unroll
                for (int i = 0; i < V; ++i)
                    best.take(output, i, found.value[output][i],
                              found.cell[output][i] + r * WINDOW, fresh);
            fresh = false;
            shared_row = found;
        }
        if (!inside || !finishes<HALO>()) continue;
#pragma unroll
        for (int output = 0; output < OUTPUTS; ++output) {
            const int column = pair * OUTPUTS + output;
            if (column >= pool.q) continue;
            const long long to =
                ((static_cast<long long>(image) * pool.p + a) * pool.q + column) * pool.c + channel;
            Pack<T> values;
            Cells<V> cells;
#pragma unroll
            for (int i = 0; i < V; ++i) {
                values.at[i] = best.value[output][i];
                cells.at[i] = static_cast<unsigned char>(best.cell[output][i]);
            }
            store(y + to, values);
            *reinterpret_cast<Cells<V>*>(index + to) = cells;
        }
    }
}

template <typename T, int SIZE, bool THREE_QUARTERS>
__global__ void __launch_bounds__(256, 4)
bias_relu_lrn_pool_gradient(const T* __restrict__ gy, const T* __restrict__ x,
                            const T* __restrict__ bias_or_null,
                            const unsigned char* __restrict__ index, T* __restrict__ gx, int total,
                            int length, const __grid_constant__ Pool pool, bool relu, T k, T alpha,
                            T beta) {
    constexpr int V = Pack<T>::size, HALO = packs_for(SIZE - 1, V);
    const int number = overlapping_pack<HALO>(), packs = pool.c / V;  // ((n·H + h)·W + w)·C/V + pack
    const bool inside = number >= 0 && number < total;
    const int mine = inside ? number : 0;
    const int channel = mine % packs * V, pixel = mine / packs;
    const int column = pixel % pool.w, row = pixel / pool.w % pool.h;
    const int image = pixel / pool.w / pool.h;

    Pack<T> values = load(x + static_cast<long long>(mine) * V), slopes{};
    const Windows down = covering(row, pool.top, pool.r, pool.stride_h, pool.p);
    const Windows across = covering(column, pool.left, pool.s, pool.stride_w, pool.q);
    for (int a = down.last; a >= down.first; --a) {
        const int above = (row + pool.top - a * pool.stride_h) * pool.s;
        for (int b = across.last; b >= across.first; --b) {
            const int cell = above + column + pool.left - b * pool.stride_w;
            const long long from =
                ((static_cast<long long>(image) * pool.p + a) * pool.q + b) * pool.c + channel;
            const Cells<V> winners = *reinterpret_cast<const Cells<V>*>(index + from);
            const Pack<T> pooled = load(gy + from);
#pragma unroll
            for (int i = 0; i < V; ++i)
                if (static_cast<int>(winners.at[i]) == cell) slopes.at[i] += pooled.at[i];
        }
    }
    const Pack<T> bias = bias_of(bias_or_null, channel);
#pragma unroll
    for (int i = 0; i < V; ++i) values.at[i] = activated(values.at[i], bias.at[i], relu);
    Pack<T> gradient = response_gradient<SIZE, THREE_QUARTERS>(slopes, values, channel % length,
                                                               length, k, alpha, beta);
    if (!inside || !finishes<HALO>()) return;
#pragma unroll
    for (int i = 0; i < V; ++i)
        if (relu && !(values.at[i] > T(0))) gradient.at[i] = T(0);
    store(gx + static_cast<long long>(mine) * V, gradient);
}
