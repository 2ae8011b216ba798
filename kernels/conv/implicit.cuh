// A block's tile of a product whose operands come to shared memory by asynchronous copies: cp.async
// from sm_80 on, through no register; before, a load and a store (ptx.cuh).
//
//   k ───►  V = 16 bytes of numbers                    Operands lie in a stage as they lie in memory, so
//   ┌──┬──┬──┬──┐ row 0    ┌───────────────┐ k 0       that 16 bytes stay together on the way:
//   │  │  │  │  │ row 1    │               │ k 1         along k   [EXTENT][K + V]   rows of a window
//   └──┴──┴──┴──┘ …        └───────────────┘ …           across    [K][EXTENT]       rows of w, of gy
//     along k                 across
//
// A row along k is an odd number of 16-byte words long, so eight rows that a quarter of a warp reads
// begin in eight different groups of banks. Columns of b along k are kept in the order in which
// threads read them (`place_of`): neighbours read neighbours.
//
// A step of K = 16: the block waits for the copies of this step, meets at one barrier, asks for the
// next step's into the other stage and multiplies. A thread multiplies V columns of k at a time: it
// reads EACH·V numbers of b and, four rows after four rows, EACH·V of a, in 16-byte words either way,
// 2·EACH·V numbers for EACH²·V multiply-adds, as gemm_tile.cuh does.
#pragma once

#include "gemm_tile.cuh"
#include "ptx.cuh"

// As BLOCKS; copies keep more addresses alive: 128×64 would spill with 128 registers, it has 168.
template <typename T, int TILE_M, int TILE_N, bool PACKED>
constexpr int COPIED_BLOCKS =
    TILE_M == 128 && TILE_N == 64 ? 3 : BLOCKS<T, TILE_M, TILE_N, PACKED>;

// The shape of one operand's stage, and how a thread's part of it is read.
template <typename T, bool ALONG_K, int EXTENT, int K>
struct Stage {
    static constexpr int LINES = ALONG_K ? EXTENT : K;
    static constexpr int PITCH = ALONG_K ? K + Pack<T>::size : EXTENT;
    static constexpr int SIZE = LINES * PITCH;
};

// Where column n of a tile is kept when b lies along k: thread c's j-th column at j·ACROSS + c.
template <int TILE, int EACH>
__device__ __forceinline__ int place_of(int n) {
    constexpr int ACROSS = TILE / EACH, PART = TILE / (EACH / 4);
    return (n / PART * 4 + n % 4) * ACROSS + n % PART / 4;
}

// Copies one operand's steps to a stage, by all threads of the block.
template <typename T, typename SOURCE, int EXTENT, int K, int THREADS, int EACH, bool PLACED>
struct Copier {
    using Shape = Stage<T, SOURCE::ALONG_K, EXTENT, K>;
    static constexpr int V = SOURCE::PACKED ? Pack<T>::size : 1;
    static constexpr int ACROSS = (SOURCE::ALONG_K ? K : EXTENT) / V;  // copies of a line
    static constexpr int AT_ONCE = THREADS / ACROSS;
    static constexpr int COPIES = (Shape::LINES + AT_ONCE - 1) / AT_ONCE;  // a thread's
    static constexpr int LANES = SOURCE::ALONG_K ? COPIES : 1;
    static_assert(THREADS % ACROSS == 0, "a thread keeps its place in the line");

    typename SOURCE::Lane lanes[LANES];
    int line, place;

    __device__ __forceinline__ void start(const SOURCE& source, int first) {
        line = threadIdx.x / ACROSS;
        place = threadIdx.x % ACROSS * V;
#pragma unroll
        for (int i = 0; i < LANES; ++i)
            lanes[i] = source.lane(first + (SOURCE::ALONG_K ? line + i * AT_ONCE : place));
    }

    // Asks for the step that begins at k. What lies outside becomes zeros; `any` is an address that
    // may be named in its place.
    __device__ __forceinline__ void copy(const SOURCE& source, int k, int stage, T* to,
                                         const T* any) const {
#pragma unroll
        for (int i = 0; i < COPIES; ++i) {
            const int at = line + i * AT_ONCE;
            if (Shape::LINES % AT_ONCE != 0 && at >= Shape::LINES) continue;
            const int slot = SOURCE::ALONG_K ? place : at;
            const int row = PLACED ? place_of<EXTENT, EACH>(at) : at;
            const T* from;
            const bool found =
                source.find(lanes[SOURCE::ALONG_K ? i : 0], k + slot, slot, stage, from);
            constexpr unsigned BYTES = V * sizeof(T);
            ptx::copy_async<BYTES>(to + row * Shape::PITCH + place, found ? from : any,
                                   found ? BYTES : 0u);
        }
    }
};

// sums += a[first_m …, k_begin … k_end) · b[…, first_n …]. Every thread of the block calls this.
// `table.prepare(k, stage)` may fill a table in shared memory for the step that begins at k; it is
// called a whole step before the copies that read it.
template <int TILE_M, int TILE_N, int K, typename T, typename A, typename B, typename TABLE>
__device__ __forceinline__ void multiply_copied(
    const A& a, const B& b, const TABLE& table, int first_m, int first_n, int k_begin, int k_end,
    T (&a_stages)[2][Stage<T, A::ALONG_K, TILE_M, K>::SIZE],
    T (&b_stages)[2][Stage<T, B::ALONG_K, TILE_N, K>::SIZE], const T* any_a, const T* any_b,
    T (&sums)[Tiling<TILE_M, TILE_N>::EACH][Tiling<TILE_M, TILE_N>::EACH]) {
    using Tile = Tiling<TILE_M, TILE_N>;
    constexpr int EACH = Tile::EACH, V = Pack<T>::size;
    constexpr int PITCH_A = Stage<T, A::ALONG_K, TILE_M, K>::PITCH;
    constexpr int PITCH_B = Stage<T, B::ALONG_K, TILE_N, K>::PITCH;
    const int row = threadIdx.x / Tile::ACROSS, column = threadIdx.x % Tile::ACROSS;
#pragma unroll
    for (int i = 0; i < EACH; ++i)
#pragma unroll
        for (int j = 0; j < EACH; ++j) sums[i][j] = T(0);
    if (k_begin >= k_end) return;

    Copier<T, A, TILE_M, K, Tile::THREADS, EACH, false> a_copier;
    Copier<T, B, TILE_N, K, Tile::THREADS, EACH, B::ALONG_K> b_copier;
    a_copier.start(a, first_m);
    b_copier.start(b, first_n);
    table.prepare(k_begin, 0);
    __syncthreads();
    table.prepare(k_begin + K, 1);
    a_copier.copy(a, k_begin, 0, a_stages[0], any_a);
    b_copier.copy(b, k_begin, 0, b_stages[0], any_b);
    ptx::copy_commit();

    int stage = 0;
    for (int k = k_begin; k < k_end; k += K) {
        ptx::copy_wait<0>();
        __syncthreads();  // this step is here, and nobody reads the other stage any more
        if (k + K < k_end) {
            a_copier.copy(a, k + K, stage ^ 1, a_stages[stage ^ 1], any_a);
            b_copier.copy(b, k + K, stage ^ 1, b_stages[stage ^ 1], any_b);
            ptx::copy_commit();
            table.prepare(k + 2 * K, stage);
        }
        const T* const a_stage = a_stages[stage];
        const T* const b_stage = b_stages[stage];
#pragma unroll 1
        for (int i = 0; i < K; i += V) {
            T right[V][EACH];
#pragma unroll
            for (int x = 0; x < EACH; x += B::ALONG_K ? 1 : V) {
#pragma unroll
                for (int v = 0; v < (B::ALONG_K ? 1 : V); ++v) {
                    const int at = B::ALONG_K
                                       ? (x * Tile::ACROSS + column) * PITCH_B + i
                                       : (i + v) * PITCH_B + tile_index<TILE_N, EACH>(column, x);
                    const Pack<T> pack = load(b_stage + at);
#pragma unroll
                    for (int j = 0; j < V; ++j) {
                        if constexpr (B::ALONG_K) right[j][x] = pack.at[j];
                        else right[v][x + j] = pack.at[j];
                    }
                }
            }
#pragma unroll
            for (int y = 0; y < EACH; y += V) {
                T left[V][V];  // by row, by k
#pragma unroll
                for (int v = 0; v < V; ++v) {
                    const int at = A::ALONG_K
                                       ? tile_index<TILE_M, EACH>(row, y + v) * PITCH_A + i
                                       : (i + v) * PITCH_A + tile_index<TILE_M, EACH>(row, y);
                    const Pack<T> pack = load(a_stage + at);
#pragma unroll
                    for (int j = 0; j < V; ++j) {
                        if constexpr (A::ALONG_K) left[v][j] = pack.at[j];
                        else left[j][v] = pack.at[j];
                    }
                }
#pragma unroll
                for (int j = 0; j < V; ++j)
#pragma unroll
                    for (int v = 0; v < V; ++v)
#pragma unroll
                        for (int x = 0; x < EACH; ++x) sums[y + v][x] += left[v][j] * right[j][x];
            }
        }
        stage ^= 1;
    }
}
