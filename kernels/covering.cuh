// What gradients of pooling gather from.
#pragma once

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
