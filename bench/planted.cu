// Two bugs for short_run.py: a sanitizer that stays silent here is worth nothing.

// Writes far past the end of y when launched with 1,024 threads for 256 elements.
__global__ void planted_overrun(const float* __restrict__ x, float* __restrict__ y) {
    y[threadIdx.x] = 2 * x[threadIdx.x % 256];
}

// Reads a neighbour's element of shared memory without a barrier.
__global__ void planted_race(const float* __restrict__ x, float* __restrict__ y) {
    __shared__ float tile[256];
    tile[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = tile[255 - threadIdx.x];
}
