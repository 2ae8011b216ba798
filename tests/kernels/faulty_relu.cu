// ReLU with faults, for the tests of `gpukit kernels check`: one block of 64 threads.

template <typename T>
__global__ void wrong(const T* __restrict__ x, T* __restrict__ y, int n) {
    for (int i = threadIdx.x; i < n; i += blockDim.x) y[i] = x[i] < 0 ? -x[i] : x[i];
}

// Reads one element beyond the end.
template <typename T>
__global__ void overrun(const T* __restrict__ x, T* __restrict__ y, int n) {
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        const T next = x[i + 1];
        y[i] = x[i] < 0 ? T(0) : next == T(12345) ? next : x[i];
    }
}

// All threads add to one counter in shared memory, without atomics.
template <typename T>
__global__ void race(const T* __restrict__ x, T* __restrict__ y, int n) {
    __shared__ int count;
    if (threadIdx.x == 0) count = 0;
    __syncthreads();
    count += 1;
    for (int i = threadIdx.x; i < n; i += blockDim.x) y[i] = x[i] < 0 ? T(0) : x[i];
}
