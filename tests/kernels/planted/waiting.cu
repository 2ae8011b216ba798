// Kernels whose threads wait for others in vain, and the same where all come.

// instances: divergent_barrier<true>, divergent_barrier<false>, two_barriers<true>
// instances: two_barriers<false>, early_return<true>, early_return<false>, deadlock<true>
// instances: deadlock<false>, missing_lane<true>, missing_lane<false>, absent_lane<true>
// instances: absent_lane<false>, endless<true>, endless<false>, division<true>, division<false>

// Half of the threads never come to the barrier.
template <bool BUG>
__global__ void divergent_barrier(const float* __restrict__ x, float* __restrict__ y) {
    __shared__ float tile[64];
    tile[threadIdx.x] = x[threadIdx.x];
    if (!BUG || threadIdx.x < 32) __syncthreads();
    y[threadIdx.x] = tile[63 - threadIdx.x];
}

// All come to a barrier, but not to the same one.
template <bool BUG> __global__ void two_barriers(const float* __restrict__ x, float* __restrict__ y) {
    __shared__ float tile[64];
    tile[threadIdx.x] = x[threadIdx.x];
    if (BUG && threadIdx.x < 32) __syncthreads();
    else
        __syncthreads();
    y[threadIdx.x] = tile[63 - threadIdx.x];
}

template <bool BUG>
__global__ void early_return(const float* __restrict__ x, float* __restrict__ y, int n) {
    __shared__ float tile[64];
    if (BUG && (int)threadIdx.x >= n) return;
    tile[threadIdx.x] = (int)threadIdx.x < n ? x[threadIdx.x] : 0.0f;
    __syncthreads();
    if ((int)threadIdx.x < n) y[threadIdx.x] = tile[n - 1 - threadIdx.x];
}

// The even lanes wait for all lanes in a shuffle, the odd ones for all threads at a barrier.
template <bool BUG> __global__ void deadlock(const float* __restrict__ x, float* __restrict__ y) {
    float value = x[threadIdx.x];
    if (!BUG || threadIdx.x % 2 == 0) value += __shfl_xor_sync(0xffffffffu, value, 1);
    __syncthreads();
    y[threadIdx.x] = value;
}

// A lane that is not in the mask that it gives.
template <bool BUG> __global__ void missing_lane(const float* __restrict__ x, float* __restrict__ y) {
    const unsigned mask = BUG ? 0x0000ffffu : 0xffffffffu;
    y[threadIdx.x] = __shfl_down_sync(mask, x[threadIdx.x], 1);
}

// Lanes 0 to 15 read from lanes that do not take part.
template <bool BUG> __global__ void absent_lane(const float* __restrict__ x, float* __restrict__ y) {
    float value = x[threadIdx.x];
    if (threadIdx.x < 16) value += __shfl_xor_sync(0x0000ffffu, value, BUG ? 16 : 8);
    y[threadIdx.x] = value;
}

template <bool BUG> __global__ void endless(const float* __restrict__ x, float* __restrict__ y) {
    volatile int turns = 0;
    while (BUG || turns < 3) turns = turns + 1;
    y[threadIdx.x] = x[threadIdx.x] + turns;
}

template <bool BUG> __global__ void division(const int* __restrict__ x, int* __restrict__ y, int by) {
    y[threadIdx.x] = x[threadIdx.x] / (BUG ? by : by + 1);
}
