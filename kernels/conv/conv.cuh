// The sizes of one convolution and how its windows slide: x (N,H,W,C), w (R,S,C/groups,K) and
// y (N,P,Q,K); window (p, q) begins at pixel (p·stride_h - top, q·stride_w - left).
#pragma once

struct Conv {
    int n, h, w, c, r, s, k, p, q, stride_h, stride_w, top, left, dilation_h, dilation_w, groups;
};
