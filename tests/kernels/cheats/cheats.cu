// Kernels for relu, each of which cheats in its way; `honest` does not.

template <typename T>
__global__ void honest(const T* x, T* y, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i] > T(0) || x[i] != x[i] ? x[i] : T(0);
}

template <typename T>
__global__ void constant(const T* x, T* y, int n, T value) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = value;
}

// Leaves the last elements out.
template <typename T>
__global__ void part(const T* x, T* y, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n - 2) y[i] = x[i] > T(0) || x[i] != x[i] ? x[i] : T(0);
}

// Right as long as it is never looked at x again.
template <typename T>
__global__ void in_place(T* x, T* y, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i] = x[i] > T(0) || x[i] != x[i] ? x[i] : T(0);
}

// Adds to what is there: right where memory is zero, as it often is.
template <typename T>
__global__ void adds(const T* x, T* y, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] += x[i] > T(0) || x[i] != x[i] ? x[i] : T(0);
}

// Adds to shared memory that nobody wrote.
template <typename T>
__global__ void adds_to_shared(const T* x, T* y, int n) {
    __shared__ T sums[256];
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    sums[threadIdx.x] += i < n && x[i] > T(0) ? x[i] : T(0);
    if (i < n) y[i] = sums[threadIdx.x];
}
