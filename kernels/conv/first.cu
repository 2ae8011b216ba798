// Convolution of images: the first layer, with up to four channels and many filters.
//
// conv/direct.cu works out for each number of its left tile where a tap lies, and needs channels in
// packs of four to load by 16 bytes; three colours are no pack. But three colours are contiguous: the
// S pixels of a window's row are one run of S·C numbers in x, and windows side by side begin
// stride·C numbers apart. So a patch of x goes to shared memory as it is, row by row, and all
// that a product needs is read from there at fixed distances:
//
//   a row of the patch    r g b r g b r g b r g b r g b r g b …        C = 3, stride 2, S = 3
//   window q = 0         [r g b r g b r g b]                           S·C = 9 numbers: k of a product
//   window q = 1                     [r g b r g b r g b]               begins stride·C = 6 later
//
// Forward: a block makes ROWS × 8 pixels of y for FILTERS filters, a thread the 8 pixels of one row
//          for 8 filters. The whole patch, (ROWS-1)·stride + R rows, is loaded once; weights pass
//          through shared memory some rows of w at a time (`chunk`, which divides S·C evenly). A step
//          of k is 8 numbers of x, which threads side by side share, and 8 weights in 16-byte packs:
//          64 multiply-adds.
// Weights: a block has GROUPS·8 of the R·S·C rows of gw for FILTERS filters, a thread 8 by 8. It goes
//          through the 4 × 8 pixel tiles of its range; of each it loads the patch, and gy as it is.
//          Ranges go to different blocks, linear.cu's split_sum adds their parts in order: the same bits
//          every run.
//
// Operations and bytes: AlexNet's conv1 (128 × 227 × 227 × 3, 96 filters 11×11, stride 4): 27 GFLOP
// each way, 403 µs at an H200's 67 TFLOP/s; x, w and y are 228 MB, 48 µs. A patch is read (39/32)²
// = 1.5 times at stride 4, mostly from L2. Shared memory gives 12 words to a warp where it multiplies
// 64 times, 12 cycles beside 16: arithmetic is the floor. A gradient by images is not made here: a
// first layer needs none (conv/direct_narrow.cu has it).
//
// instances: conv2d_forward_first<T, 8, 96, 0>, conv2d_forward_first<T, 8, 96, 1>
// instances: conv2d_forward_first<T, 16, 48, 0>, conv2d_forward_first<T, 8, 64, 0>
// instances: conv2d_forward_first<T, 8, 64, 2>, conv2d_forward_first<T, 16, 32, 3>
// instances: conv2d_weight_grad_first<T, 8, 96>, conv2d_weight_grad_first<T, 16, 48>
// instances: conv2d_weight_grad_first<T, 8, 64>, conv2d_weight_grad_first<T, 16, 32>
#include "conv/conv.cuh"
#include "epilogue.cuh"
#include "pack.cuh"

constexpr int EACH = 8;     // pixels, or rows of gw, and filters of a thread
constexpr int ACROSS = 8;   // pixels of a tile, side by side
constexpr int GRADIENT_ROWS = 4;

// Blocks on a multiprocessor that registers must allow, for so many threads on it; 64 sums of double
// take twice as many registers.
template <typename T>
__host__ __device__ constexpr int blocks_of(int threads, int together) {
    return (sizeof(T) == 8 ? 256 : together) / threads;
}

// Where a tile of pixels lies: image, its first row and column of y. Tiles count columns first.
struct Tile {
    int image, row, column;
};

__device__ __forceinline__ Tile tile_of(int number, int rows, int out_height, int out_width) {
    const int across = (out_width + ACROSS - 1) / ACROSS, down = (out_height + rows - 1) / rows;
    return {number / across / down, number / across % down * rows, number % across * ACROSS};
}

// `lines` rows of `pitch` numbers of an image to shared memory, from row h and number `first` of a
// row of `run` on; zeros outside. A warp a row.
template <typename T>
__device__ __forceinline__ void load_patch(const T* image, T* patch, int h, int height, int first,
                                           int run, int lines, int pitch) {
    for (int line = threadIdx.x / 32; line < lines; line += blockDim.x / 32) {
        const bool real = h + line >= 0 && h + line < height;
        const T* const from = image + static_cast<long long>(h + line) * run + first;
        for (int i = threadIdx.x % 32; i < pitch; i += 32)
            patch[line * pitch + i] = real && first + i >= 0 && first + i < run ? from[i] : T(0);
    }
}

// `lines` rows of FILTERS numbers, from rows `stride` long of which `left` are left; zeros beyond.
template <int FILTERS, typename T>
__device__ __forceinline__ void load_lines(const T* from, T* to, int lines, int stride, int left) {
    for (int i = threadIdx.x; i < lines * FILTERS; i += blockDim.x) {
        const int line = i / FILTERS, column = i % FILTERS;
        to[i] = column < left ? from[static_cast<long long>(line) * stride + column] : T(0);
    }
}

// The first filter of a thread's pack i: packs lie FILTERS / (EACH / V) apart, so that threads side by
// side read side by side.
template <typename T, int FILTERS>
__device__ __forceinline__ int filter_of(int mine, int i) {
    constexpr int V = Pack<T>::size;
    return i * (FILTERS / (EACH / V)) + mine * V;
}

template <typename T, int FILTERS>
__device__ __forceinline__ void multiply(T (&sums)[EACH][EACH], const T (&left)[EACH], const T* line,
                                         int mine) {
    constexpr int V = Pack<T>::size;
#pragma unroll
    for (int i = 0; i < EACH / V; ++i) {
        const Pack<T> right = load(line + filter_of<T, FILTERS>(mine, i));
#pragma unroll
        for (int y = 0; y < EACH; ++y)
#pragma unroll
            for (int x = 0; x < V; ++x) sums[y][i * V + x] += left[y] * right.at[x];
    }
}

// A thread's sums of one pixel, or of one row of gw, to its filters in `to`, of which `left` are left.
template <typename T, int FILTERS, int ACTIVATION>
__device__ __forceinline__ void write_line(const T (&sums)[EACH], T* to, const T* bias, int mine,
                                           int left) {
    constexpr int V = Pack<T>::size;
#pragma unroll
    for (int i = 0; i < EACH / V; ++i) {
        const int k = filter_of<T, FILTERS>(mine, i);
        Pack<T> pack;
#pragma unroll
        for (int v = 0; v < V; ++v) {
            const T offset = bias != nullptr && k + v < left ? bias[k + v] : T(0);
            pack.at[v] = activate<ACTIVATION>(sums[i * V + v] + offset);
        }
        if (k + V <= left && aligned(to + k)) {
            store(to + k, pack);
        } else {
#pragma unroll
            for (int v = 0; v < V; ++v)
                if (k + v < left) to[k + v] = pack.at[v];
        }
    }
}

// blockIdx.x = tile of pixels, blockIdx.y = tile of filters. Shared memory: the weights of a step,
// then the patch.
template <typename T, int ROWS, int FILTERS, int ACTIVATION>
__global__ void __launch_bounds__(ROWS * FILTERS / EACH, blocks_of<T>(ROWS * FILTERS / EACH, 480))
    conv2d_forward_first(const T* __restrict__ x, const T* __restrict__ w,
                         const T* __restrict__ bias_or_null, T* __restrict__ y,
                         const __grid_constant__ Conv conv, int chunk) {
    extern __shared__ double2 space[];
    T* const weights = reinterpret_cast<T*>(space);
    T* const patch = weights + chunk * FILTERS;
    const Tile tile = tile_of(blockIdx.x, ROWS, conv.p, conv.q);
    const int step = conv.stride_w * conv.c, depth = conv.s * conv.c;
    const int pitch = (ACROSS - 1) * step + depth, lines = (ROWS - 1) * conv.stride_h + conv.r;
    const int first_k = blockIdx.y * FILTERS, left = conv.k - first_k;
    const int row = threadIdx.x / (FILTERS / EACH), mine = threadIdx.x % (FILTERS / EACH);

    load_patch(x + static_cast<long long>(tile.image) * conv.h * conv.w * conv.c, patch,
               tile.row * conv.stride_h - conv.top, conv.h, tile.column * step - conv.left * conv.c,
               conv.w * conv.c, lines, pitch);
    T sums[EACH][EACH] = {};
    for (int r = 0; r < conv.r; ++r) {
        const T* const line = patch + (row * conv.stride_h + r) * pitch;
        for (int k = 0; k < depth; k += chunk) {
            __syncthreads();  // all have done with the weights before these
            const T* const from = w + static_cast<long long>(r * depth + k) * conv.k + first_k;
            load_lines<FILTERS>(from, weights, min(chunk, depth - k), conv.k, left);
            __syncthreads();
            const int end = min(chunk, depth - k);
#pragma unroll 2
            for (int i = 0; i < end; ++i) {
                T pixels[EACH];
#pragma unroll
                for (int j = 0; j < EACH; ++j) pixels[j] = line[j * step + k + i];
                multiply<T, FILTERS>(sums, pixels, weights + i * FILTERS, mine);
            }
        }
    }
    const int p = tile.row + row;
    if (p >= conv.p) return;
    const T* const bias = bias_or_null == nullptr ? nullptr : bias_or_null + first_k;
#pragma unroll
    for (int j = 0; j < EACH; ++j) {
        const int q = tile.column + j;
        if (q >= conv.q) continue;
        const long long pixel = (static_cast<long long>(tile.image) * conv.p + p) * conv.q + q;
        write_line<T, FILTERS, ACTIVATION>(sums[j], y + pixel * conv.k + first_k, bias, mine, left);
    }
}

// blockIdx.x = tile of rows of gw, blockIdx.y = tile of filters, blockIdx.z = range of `each` pixel
// tiles. Shared memory: gy of a tile, then the patch. `tiles` are all pixel tiles.
template <typename T, int GROUPS, int FILTERS>
__global__ void __launch_bounds__(GROUPS * FILTERS / EACH, blocks_of<T>(GROUPS * FILTERS / EACH, 384))
    conv2d_weight_grad_first(const T* __restrict__ x, const T* __restrict__ gy,
                             T* __restrict__ parts, const __grid_constant__ Conv conv, int tiles,
                             int each) {
    extern __shared__ double2 space[];
    T* const gradients = reinterpret_cast<T*>(space);
    T* const patch = gradients + GRADIENT_ROWS * ACROSS * FILTERS;
    const int step = conv.stride_w * conv.c, depth = conv.s * conv.c, rows = conv.r * depth;
    const int pitch = (ACROSS - 1) * step + depth;
    const int lines = (GRADIENT_ROWS - 1) * conv.stride_h + conv.r;
    const int first_k = blockIdx.y * FILTERS, left = conv.k - first_k;
    const int group = threadIdx.x / (FILTERS / EACH), mine = threadIdx.x % (FILTERS / EACH);
    const int first_m = (blockIdx.x * GROUPS + group) * EACH;

    int places[EACH];  // in the patch, of the numbers that meet pixel (0, 0)
#pragma unroll
    for (int i = 0; i < EACH; ++i) {
        const int m = min(first_m + i, rows - 1);
        places[i] = m / depth * pitch + m % depth;
    }
    T sums[EACH][EACH] = {};
    const int begin = blockIdx.z * each, end = min(begin + each, tiles);
    for (int number = begin; number < end; ++number) {
        const Tile tile = tile_of(number, GRADIENT_ROWS, conv.p, conv.q);
        __syncthreads();  // all have done with the tile before
        load_patch(x + static_cast<long long>(tile.image) * conv.h * conv.w * conv.c, patch,
                   tile.row * conv.stride_h - conv.top, conv.h,
                   tile.column * step - conv.left * conv.c, conv.w * conv.c, lines, pitch);
        const int across = min(ACROSS, conv.q - tile.column);
        const int down = min(GRADIENT_ROWS, conv.p - tile.row);
        for (int p = 0; p < down; ++p) {
            const long long pixel =
                (static_cast<long long>(tile.image) * conv.p + tile.row + p) * conv.q + tile.column;
            load_lines<FILTERS>(gy + pixel * conv.k + first_k, gradients + p * ACROSS * FILTERS,
                                across, conv.k, left);
        }
        __syncthreads();
        for (int p = 0; p < down; ++p) {
            const T* const corner = patch + p * conv.stride_h * pitch;
            const T* const line = gradients + p * ACROSS * FILTERS;
#pragma unroll 2
            for (int q = 0; q < across; ++q) {
                T pixels[EACH];
#pragma unroll
                for (int i = 0; i < EACH; ++i) pixels[i] = corner[places[i] + q * step];
                multiply<T, FILTERS>(sums, pixels, line + q * FILTERS, mine);
            }
        }
    }
    T* const part = parts + static_cast<long long>(blockIdx.z) * rows * conv.k + first_k;
#pragma unroll
    for (int i = 0; i < EACH; ++i) {
        const int m = first_m + i;
        if (m >= rows) continue;
        write_line<T, FILTERS, NO_ACTIVATION>(sums[i], part + static_cast<long long>(m) * conv.k,
                                              nullptr, mine, left);
    }
}
