// Pooling as its kernels see it, and what its gradients gather from.
#pragma once

// Images h×w of c channels, p×q windows of r×s cells, and how they slide.
struct Pool {
    int h, w, c, p, q, r, s, stride_h, stride_w, top, left;
};

// The windows that cover a pixel, along one axis: `first` … `last`; none where first > last.
struct Windows {
    int first, last;
};

__device__ __forceinline__ Windows covering(int pixel, int pad, int cells, int stride, int windows) {
    const int end = pixel + pad;  // the pixel's place in the padded image
    const int first = end < cells ? 0 : (end - cells) / stride + 1;
    const int last = end / stride;
    return {first, last < windows ? last : windows - 1};
}
