// half and bfloat16 by NVIDIA's own headers.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

__global__ void halves(const __half* __restrict__ x, float* __restrict__ y, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const float4 four = make_float4(__half2float(x[i]), 0, 0, 0);
    y[i] = __bfloat162float(__float2bfloat16(four.x)) + __half2float(__float2half(0.5f));
}
