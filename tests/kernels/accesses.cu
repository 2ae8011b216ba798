// Accesses whose sectors and bank conflicts are counted by hand, in test_trace.py.
#include "pack.cuh"
#include "ptx.cuh"

// A warp's request: element `first` + `step` · lane of x, into element lane of y.
template <typename T>
__global__ void global_row(const T* __restrict__ x, T* __restrict__ y, int first, int step) {
    const T v = x[first + step * threadIdx.x];
    y[threadIdx.x] = v;
}

__global__ void global_packs(const float* __restrict__ x, float* __restrict__ y) {
    const float4 v = reinterpret_cast<const float4*>(x)[threadIdx.x];
    reinterpret_cast<float4*>(y)[threadIdx.x] = make_float4(v.x + 1, v.y, v.z, v.w);
    Pack<float> pack = load(x + 4 * threadIdx.x);
    for (int i = 0; i < 4; ++i) pack.at[i] *= 2;
    store(y + 4 * threadIdx.x, pack);
}

// Element `step` · lane of a shared array.
template <typename T> __global__ void shared_row(T* __restrict__ y, int step) {
    __shared__ T row[2048];
    row[step * threadIdx.x] = T(threadIdx.x);
    __syncthreads();
    y[threadIdx.x] = row[step * threadIdx.x];
}

__global__ void shared_tiles(float* __restrict__ y) {
    __shared__ float tile[32][32], padded[32][33];
    __shared__ float4 packs[32];
    tile[threadIdx.x][0] = 1;
    padded[threadIdx.x][0] = 1;
    packs[threadIdx.x] = make_float4(1, 2, 3, 4);
    __syncthreads();
    y[threadIdx.x] = tile[0][5] + padded[threadIdx.x][0] + packs[threadIdx.x].x;
}

// Odd and even lanes take turns: in each round of the loop one half of them loads.
__global__ void divergent(const float* __restrict__ x, float* __restrict__ y, int rounds) {
    float sum = 0;
    for (int i = 0; i < rounds; ++i)
        if ((threadIdx.x + i) % 2) sum += x[32 * i + threadIdx.x];
    y[threadIdx.x] = sum;
}

// Lane l goes round l % 4 times: the warp waits for its slowest lanes, and is whole at the end.
__global__ void ragged(const float* __restrict__ x, float* __restrict__ y) {
    float sum = 0;
    for (int i = 0; i < threadIdx.x % 4; ++i) sum += x[32 * i + threadIdx.x];
    y[threadIdx.x] = sum;
}

__global__ void adds(float* __restrict__ y) {
    __shared__ int count;
    if (threadIdx.x == 0) count = 0;
    __syncthreads();
    atomicAdd(&count, 1);
    atomicAdd(y + threadIdx.x, 1.0f);
}

__global__ void copies(const float* __restrict__ x, float* __restrict__ y) {
    __shared__ float stage[128];
    ptx::copy_async<16>(&stage[4 * threadIdx.x], x + 4 * threadIdx.x, threadIdx.x < 16 ? 16 : 0);
    ptx::copy_commit();
    ptx::copy_wait<0>();
    __syncthreads();
    y[threadIdx.x] = stage[threadIdx.x];
}

// Each lane goes its own way, by a plan: on, round a loop of its own, aside, or out.
__global__ void walk(const int* __restrict__ plan, const float* __restrict__ x,
                     float* __restrict__ y, int rounds) {
    const int lane = threadIdx.x;
    float sum = 0;
    for (int i = 0; i < rounds; ++i) {
        const int what = plan[32 * i + lane];
        if (what == 0) continue;
        if (what == 1) {
            for (int k = 0; k < lane % 3; ++k) sum += x[32 * k + lane];  // in a loop
        } else if (what == 2) {
            sum += x[2 * lane];  // aside
        } else {
            sum -= x[lane];  // on the way out
            if (lane % 2) break;
        }
        sum += x[3 * lane];  // together again
    }
    y[lane] = sum;
}
