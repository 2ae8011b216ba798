// Kernels with one bug each, and without it: what each checker must find, and must not.
// BUG chooses; everything else is the same.

// instances: shared_overrun<true>, shared_overrun<false>, global_overrun<true>
// instances: global_overrun<false>, inner_overrun<true>, inner_overrun<false>
// instances: misaligned<true>, misaligned<false>, uninitialised<true>, uninitialised<false>
// instances: partial_output<true>, partial_output<false>, underrun<true>, underrun<false>
// instances: dynamic_overrun<true>, dynamic_overrun<false>

// Each value and its right neighbour; the last thread's neighbour is outside of the shared array.
template <bool BUG> __global__ void shared_overrun(const float* __restrict__ x, float* __restrict__ y) {
    __shared__ float tile[64];
    const int i = threadIdx.x;
    tile[i] = x[i];
    if (BUG) tile[i + 1] = x[i];
    __syncthreads();
    tile[i] = x[i];
    __syncthreads();
    y[i] = tile[i] + (i + 1 < 64 ? tile[i + 1] : 0.0f);
}

template <bool BUG>
__global__ void global_overrun(const float* __restrict__ x, float* __restrict__ y, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (BUG ? i <= n : i < n) y[i] = i < n ? 2 * x[i] : 0.0f;
}

template <bool BUG>
__global__ void underrun(const float* __restrict__ x, float* __restrict__ y, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[BUG ? i - 1 : i] = x[i];
}

// Column 8 of a row of 8 lies in the next row: inside of the array, but the wrong element.
template <bool BUG> __global__ void inner_overrun(const float* __restrict__ x, float* __restrict__ y) {
    __shared__ float tile[4][8];
    const int row = threadIdx.x / 8, column = threadIdx.x % 8;
    tile[row][column] = x[threadIdx.x];
    __syncthreads();
    const int next = BUG ? column + 1 : (column + 1) % 8;
    y[threadIdx.x] = row < 3 ? tile[row][next] : 0.0f;
}

// Four floats at once from an address that is no multiple of 16.
template <bool BUG>
__global__ void misaligned(const float* __restrict__ x, float* __restrict__ y, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (4 * i + 4 >= n) return;
    const float4 four = *reinterpret_cast<const float4*>(x + 4 * i + (BUG ? 1 : 0));
    *reinterpret_cast<float4*>(y + 4 * i) = four;
}

// A sum in shared memory that nobody set to zero.
template <bool BUG>
__global__ void uninitialised(const float* __restrict__ x, float* __restrict__ y, int n) {
    __shared__ float total;
    if (threadIdx.x == 0) {
        if (!BUG) total = 0;
        for (int i = 0; i < n; ++i) total += x[i];
        y[0] = total;
    }
}

// The last elements, which fill no whole block, are left out.
template <bool BUG>
__global__ void partial_output(const float* __restrict__ x, float* __restrict__ y, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < (BUG ? n / (int)blockDim.x * (int)blockDim.x : n)) y[i] = x[i] + 1;
}

// One float more than the launch asked for.
template <bool BUG> __global__ void dynamic_overrun(const float* __restrict__ x, float* __restrict__ y) {
    extern __shared__ float values[];
    values[threadIdx.x + (BUG ? 1 : 0)] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = values[threadIdx.x];
}
