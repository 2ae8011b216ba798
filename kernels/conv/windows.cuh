// Images and weights as operands of a tiled product: convolution without a panel. The windows that
// slide over images are read where they lie; gemm_tile.cuh says what an operand (a Source) is.
//
//   Windows            forward's x and the input gradient's gy: a row is a pixel's window, k runs
//                      over (tap, channel)
//   WeightsByChannel   the input gradient's w: a column is a channel, k runs over (tap, filter)
//   WindowsAcross      the weight gradient's x: a row is one (r, s, c), k runs over pixels
//
// What k means is worked out once a step by a few threads for the whole block, into a small table in
// shared memory (Taps, Pixels), so that no thread divides inside the loop.
//
// Beside `load` each has, for copies that pass no register (conv/implicit.cuh),
//   bool find(lane, k, slot, stage, from)   whether something lies at (lane, k), and where
#pragma once

#include "conv/conv.cuh"
#include "gemm_tile.cuh"

// So far outside that no offset leads back into an image; two of them still fit an int.
constexpr int NOWHERE = -(1 << 29);

// What k means in a step: distance from a pixel's corner, in rows, columns and elements; and, for
// the input gradient, where the tap's weight lies (for channel 0 of the group).
struct alignas(16) Tap {
    int h, w, offset, weight;
};

// Images as the left operand: row m is the window of a pixel, k runs over its taps.
template <typename T, int K, bool IS_PACKED>
struct Windows {
    static constexpr bool ALONG_K = true, PACKED = IS_PACKED;
    struct Lane {
        const T* corner;
        int h, w;
    };

    const T* images;  // from the group's first channel on
    int height, width, channels;
    int count, rows, columns;       // images; pixels of one
    int first_h, first_w;           // corner of pixel (0, 0)
    int stride_h, stride_w;         // from one pixel's corner to the next
    const Tap (*taps)[K];

    __device__ __forceinline__ Lane lane(int m) const {
        const int row = m / columns;
        const int h = row % rows * stride_h + first_h, w = m % columns * stride_w + first_w;
        const long long size = static_cast<long long>(height) * width * channels;
        // One pointer for all rows, also those beyond the last: a choice of two would turn LDG into LD.
        return {images + row / rows * size + (h * width + w) * channels,
                m < count * rows * columns ? h : NOWHERE, w};
    }

    __device__ __forceinline__ Load<T, PACKED> load(const Lane& lane, int, int slot,
                                                    int stage) const {
        const Tap tap = taps[stage][slot];
        const int h = lane.h + tap.h, w = lane.w + tap.w;
        if (static_cast<unsigned>(h) >= static_cast<unsigned>(height) ||
            static_cast<unsigned>(w) >= static_cast<unsigned>(width))
            return {};
        return *reinterpret_cast<const Load<T, PACKED>*>(lane.corner + tap.offset);
    }

    __device__ __forceinline__ bool find(const Lane& lane, int, int slot, int stage,
                                         const T*& from) const {
        const Tap tap = taps[stage][slot];
        const int h = lane.h + tap.h, w = lane.w + tap.w;
        from = lane.corner + tap.offset;
        return static_cast<unsigned>(h) < static_cast<unsigned>(height) &&
               static_cast<unsigned>(w) < static_cast<unsigned>(width);
    }
};

// Fills the table of taps: tap (i, j) of rows×columns lies (i·step_h, j·step_w) from the corner,
// and its weight in w is (first + i·skip_h·S + j·skip_w)·weight_size.
template <int K>
struct Taps {
    static constexpr bool USED = true;
    Tap (*table)[K];
    int depth, rows, columns;  // channels of a tap in this group; taps
    int step_h, step_w, width, channels;
    int weight_first, weight_h, weight_w;

    __device__ __forceinline__ void prepare(int k, int stage) const {
        const int slot = threadIdx.x;
        if (slot >= K) return;
        // Unsigned divisions keep fewer registers alive around the loop.
        const unsigned at = k + slot, of = depth;
        const int cell = at / of, channel = at % of;
        Tap tap{NOWHERE, NOWHERE, 0, -1};
        if (cell < rows * columns) {
            const int i = static_cast<unsigned>(cell) / static_cast<unsigned>(columns);
            const int j = cell - i * columns;
            const int h = i * step_h, w = j * step_w;
            tap = {h, w, (h * width + w) * channels + channel,
                   weight_first + i * weight_h + j * weight_w + channel};
        }
        table[stage][slot] = tap;
    }
};

// One axis of the input gradient, one phase: which pixels it has, which taps reach them, and where
// in gy the first tap of the first pixel points.
struct Phase {
    int first, count;      // pixels first, first + stride, …
    int tap, taps, step;   // taps tap, tap + step, …
    int corner, fall;      // p of the first pixel and tap; p falls by so much from tap to tap
};

__device__ __forceinline__ Phase phase_of(int phase, int size, int taps, int stride, int pad,
                                          int dilation) {
    int a = stride, b = dilation;
    while (b != 0) {
        const int rest = a % b;
        a = b;
        b = rest;
    }
    const int step = stride / a;
    const int first = (phase - pad % stride + stride) % stride;
    int tap = 0;
    while (tap < step && tap * dilation % stride != phase) ++tap;
    const bool reached = tap < step && tap < taps;
    return {first,
            first < size ? (size - first - 1) / stride + 1 : 0,
            tap,
            reached ? (taps - tap - 1) / step + 1 : 0,
            step,
            reached ? (first + pad - tap * dilation) / stride : 0,
            dilation / a};
}

// w as the right operand of the input gradient: k runs along a tap's filters, n over channels.
template <typename T, int K, bool IS_PACKED>
struct WeightsByChannel {
    static constexpr bool ALONG_K = true, PACKED = IS_PACKED;
    using Lane = const T*;
    const T* base;
    int extent, stride;
    const Tap (*taps)[K];

    __device__ __forceinline__ Lane lane(int n) const {
        return n < extent ? base + static_cast<long long>(n) * stride : nullptr;
    }

    __device__ __forceinline__ Load<T, PACKED> load(Lane lane, int, int slot, int stage) const {
        const int weight = taps[stage][slot].weight;
        if (lane == nullptr || weight < 0) return {};
        return *reinterpret_cast<const Load<T, PACKED>*>(lane + weight);
    }

    __device__ __forceinline__ bool find(Lane lane, int, int slot, int stage,
                                         const T*& from) const {
        const int weight = taps[stage][slot].weight;
        const bool found = lane != nullptr && weight >= 0;
        from = found ? lane + weight : nullptr;
        return found;
    }
};

// What k means in a step of the weight gradient: the corner of a pixel's window.
struct alignas(16) Pixel {
    int h, w;
    long long offset;
};

template <int K>
struct Pixels {
    static constexpr bool USED = true;
    Pixel (*table)[K];
    int k_end;
    const Conv& conv;

    __device__ __forceinline__ void prepare(int k, int stage) const {
        const int slot = threadIdx.x;
        if (slot >= K) return;
        Pixel pixel{NOWHERE, NOWHERE, 0};
        if (k + slot < k_end) {
            const int line = (k + slot) / conv.q, image = line / conv.p;
            const int h = line % conv.p * conv.stride_h - conv.top;
            const int w = (k + slot) % conv.q * conv.stride_w - conv.left;
            pixel = {h, w, ((static_cast<long long>(image) * conv.h + h) * conv.w + w) * conv.c};
        }
        table[stage][slot] = pixel;
    }
};

// Images as the transposed left operand: row m is one (r, s, c), k runs over pixels of y.
template <typename T, int K, bool IS_PACKED>
struct WindowsAcross {
    static constexpr bool ALONG_K = false, PACKED = IS_PACKED;
    struct Lane {
        int h, w, offset;
    };
    const T* images;
    int depth;
    const Conv& conv;
    const Pixel (*pixels)[K];

    __device__ __forceinline__ Lane lane(int m) const {
        const int cell = m / depth, channel = m % depth;
        if (cell >= conv.r * conv.s) return {NOWHERE, NOWHERE, 0};
        const int h = cell / conv.s * conv.dilation_h, w = cell % conv.s * conv.dilation_w;
        return {h, w, (h * conv.w + w) * conv.c + channel};
    }

    __device__ __forceinline__ Load<T, PACKED> load(const Lane& lane, int, int slot,
                                                    int stage) const {
        const Pixel pixel = pixels[stage][slot];
        const int h = lane.h + pixel.h, w = lane.w + pixel.w;
        if (static_cast<unsigned>(h) >= static_cast<unsigned>(conv.h) ||
            static_cast<unsigned>(w) >= static_cast<unsigned>(conv.w))
            return {};
        return *reinterpret_cast<const Load<T, PACKED>*>(images + (pixel.offset + lane.offset));
    }

    __device__ __forceinline__ bool find(const Lane& lane, int, int slot, int stage,
                                         const T*& from) const {
        const Pixel pixel = pixels[stage][slot];
        const int h = lane.h + pixel.h, w = lane.w + pixel.w;
        from = images + (pixel.offset + lane.offset);
        return static_cast<unsigned>(h) < static_cast<unsigned>(conv.h) &&
               static_cast<unsigned>(w) < static_cast<unsigned>(conv.w);
    }
};
