template <typename T>
__global__ void broken(const T* x, T* y, int n) {
    const int i = threadIdx.x
    if (i < n) y[i] = x[i];
}
