template <typename T>
__global__ void good(const T* x, T* y, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i] > T(0) || x[i] != x[i] ? x[i] : T(0);
}

template <typename T>
__global__ void crashes(const T* x, T* y, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    T* nowhere = (T*)16;
    if (i < n) nowhere[i] = x[i];
}

template <typename T>
__global__ void never_ends(const T* x, T* y, int n) {
    volatile int turns = 0;
    while (n > 0) turns++;
    y[0] = T(turns);
}

template <typename T>
__global__ void dynamic(const T* x, T* y, int n) {
    extern __shared__ char space[];
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    space[threadIdx.x] = 0;
    if (i < n) y[i] = x[i] > T(0) || x[i] != x[i] ? x[i] : T(space[threadIdx.x]);
}

template <typename T>
__global__ void speaks(const T* x, T* y, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i] > T(0) || x[i] != x[i] ? x[i] : T(0);
    if (i == 0) printf("by a kernel\n");
}
