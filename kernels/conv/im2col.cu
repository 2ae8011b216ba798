// Convolution by matrix products over a copied panel: im2col, then linear.cu; and back, col2im.
//
// A row of the panel is what the window of one pixel of y sees of one group:
//
//   panel (G, pixels of some images, ld)     row (n, p, q):  x[window cell (0,0), all C/G channels],
//                                            x[cell (0,1), …], … x[cell (R-1, S-1), …], zeros up to ld
//
//   forward           y_g  = panel_g · w_g          (pixels, R·S·C/G) · (R·S·C/G, K/G)
//   weight gradient   gw_g = panel_gᵀ · gy_g
//   input gradient    panel_g = gy_g · w_gᵀ, then every pixel of x adds up the panel's cells that
//                     were copied from it (col2im). It gathers: no atomics, the same bits every run.
//
// ld is R·S·C/G rounded up to 16 bytes and the rest of a row is zeros, so that the products read
// packs whatever the shape. NHWC makes a window cell a run of C/G neighbours in x and in the panel:
// where C/G comes in packs, threads move 16 bytes; a warp writes 512 in a row.
//
// Bytes: the panel is R·S times as large as x at stride 1; it is written once and read once. AlexNet
// conv2, batch 128: x 35 MB, panel 2·93312·1200·4 = 896 MB, so 1.8 GB or 373 µs at 4.8 TB/s beside the
// product's 856 µs. The launcher therefore takes a few images at a time, panel at most 64 MiB (or
// one image's): near enough to an L2 of 50 MB that part of the reading stays there. A 1×1
// convolution of stride 1 needs no panel: x is one.
//
// One thread a pack of the panel (im2col) or of x (col2im), nothing shared.
//
// instances: im2col<T, true>, im2col<T, false>, col2im<T, true>, col2im<T, false>
#include "conv/conv.cuh"
#include "gemm_tile.cuh"
#include "gpukit.cuh"

// blockIdx.y = group. Thread number: pixel · packs of a row + pack.
template <typename T, bool PACKED>
__global__ void __launch_bounds__(256, 4) im2col(const T* __restrict__ x, T* __restrict__ panel,
                                                 const __grid_constant__ Conv conv, int ld) {
    using Word = Load<T, PACKED>;
    const int packs = ld / Word::size, depth = conv.c / conv.groups, group = blockIdx.y;
    const long long number = gpukit::thread_number(), pixel = number / packs;
    if (pixel >= static_cast<long long>(conv.n) * conv.p * conv.q) return;
    const int place = number % packs * Word::size;
    const int c = place % depth, s = place / depth % conv.s, r = place / depth / conv.s;
    const long long line = pixel / conv.q, image = line / conv.p;
    const int h = line % conv.p * conv.stride_h - conv.top + r * conv.dilation_h;
    const int w = pixel % conv.q * conv.stride_w - conv.left + s * conv.dilation_w;
    Word word{};
    if (r < conv.r && h >= 0 && h < conv.h && w >= 0 && w < conv.w)
        word = *reinterpret_cast<const Word*>(x + ((image * conv.h + h) * conv.w + w) * conv.c +
                                              group * depth + c);
    const long long rows = static_cast<long long>(conv.n) * conv.p * conv.q;
    *reinterpret_cast<Word*>(panel + (group * rows + pixel) * ld + place) = word;
}

// Thread number: ((n·H + h)·W + w)·packs of C + pack.
template <typename T, bool PACKED>
__global__ void __launch_bounds__(256, 4) col2im(const T* __restrict__ panel, T* __restrict__ gx,
                                                 const __grid_constant__ Conv conv, int ld) {
    using Word = Load<T, PACKED>;
    const int packs = conv.c / Word::size, depth = conv.c / conv.groups;
    const long long number = gpukit::thread_number();
    const int channel = number % packs * Word::size, group = channel / depth;
    long long rest = number / packs;
    const int column = rest % conv.w;
    rest /= conv.w;
    const int row = rest % conv.h;
    const long long image = rest / conv.h;
    if (image >= conv.n) return;

    const long long pixels = static_cast<long long>(conv.p) * conv.q;
    const T* const from = panel + (group * conv.n + image) * pixels * ld + channel % depth;
    Word sum{};
    for (int r = 0; r < conv.r; ++r) {
        const int down = row + conv.top - r * conv.dilation_h, p = down / conv.stride_h;
        if (down < 0 || down % conv.stride_h != 0 || p >= conv.p) continue;
        for (int s = 0; s < conv.s; ++s) {
            const int right = column + conv.left - s * conv.dilation_w, q = right / conv.stride_w;
            if (right < 0 || right % conv.stride_w != 0 || q >= conv.q) continue;
            const Word word = *reinterpret_cast<const Word*>(
                from + (static_cast<long long>(p) * conv.q + q) * ld + (r * conv.s + s) * depth);
#pragma unroll
            for (int i = 0; i < Word::size; ++i) sum.at[i] += word.at[i];
        }
    }
    *reinterpret_cast<Word*>(gx + number * Word::size) = sum;
}
