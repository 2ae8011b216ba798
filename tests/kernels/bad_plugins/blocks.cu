template <typename T>
__global__ void staged(const T* x, T* y, int n) {
    __shared__ T mine[40 * 1024 / sizeof(T)];
    extern __shared__ char theirs[];
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    mine[threadIdx.x] = T(0);
    theirs[threadIdx.x] = 0;
    if (i < n) y[i] = x[i] > T(0) || x[i] != x[i] ? x[i] : mine[threadIdx.x] + theirs[threadIdx.x];
}

template <typename T>
__global__ void __launch_bounds__(sizeof(T) > 4 ? 64 : 128, 2)
bounded(const T* x, T* y, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i] > T(0) || x[i] != x[i] ? x[i] : T(0);
}
