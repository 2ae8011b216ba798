// A block's tile of a matrix product c = a·b, whoever a and b are: linear.cu reads matrices,
// conv/direct.cu reads images through the windows that slide over them. What is the same for both
// is here: two stages of shared memory, a block of the result in each thread's registers, and the
// last touch (bias, activation) on the way out.
//
//   TILE_N ─────►                    Each step brings K columns of a and K rows of b into shared
//   ┌────────────┐ K                 memory, both with k outermost, so that a thread reads its rows
//   │  b, stage  │                   of a and its columns of b as 16-byte words. While a step is
//   └────────────┘                   multiplied, the next one is on its way from global memory into
//   K   ┌────────────┐ ▲             registers; it is stored into the other stage, and one barrier
// ┌───┐ │            │ TILE_M        a step keeps readers and writers apart.
// │ a │ │  16 or 64  │ │
// │   │ │ sums/thread│ ▼             A thread's EACH×EACH sums are made of 4×4 pieces, TILE_M/2 and
// └───┘ └────────────┘               TILE_N/2 apart where EACH is 8: a warp then reads 16-byte words
//                                    that lie side by side, and no two of them share a bank.
//
// Per step a thread multiplies EACH²·K pairs and reads 2·EACH·K numbers from shared memory: 4 (8)
// multiply-adds a float32 word read at EACH 8, 2 at EACH 4. Rows of both stages are 4 elements
// longer than the tile: an operand stored along k is scattered down a column of the stage, and the
// pad brings packs that are an odd number of packs apart to other banks. Where a row of packs is 16
// long, the second half of the lines is moved by 8 banks more, since packs two apart met again:
//
//   k of a pack's first number            0       4       8       12
//   banks of 8 rows of float32, 64 wide   0 … 7   16 … 23 8 … 15  24 … 31      line k at 68·k + k/8·8
//
// An operand is a Source:
//   ALONG_K, PACKED        whether neighbours in memory are neighbours in k (or in m, n), and
//                          whether loads are packs of 16 bytes
//   Lane lane(i)           what can be worked out once for row i of a, or column i of b
//   load(lane, k, slot, stage)   what lies at (lane, k); slot = k's place in the step, for tables
// Loads beyond the matrix come back as zeros, so that sums need no predicates.
#pragma once

#include "epilogue.cuh"
#include "pack.cuh"

template <int TILE_M, int TILE_N>
struct Tiling {
    static constexpr int EACH = TILE_M == 128 && TILE_N >= 48 ? 8 : 4;
    static constexpr int K = EACH == 8 ? 8 : 16;
    static constexpr int UNROLL = EACH == 8 ? 2 : K;  // unrolled further, 8×8 sums spill
    static constexpr int ACROSS = TILE_N / EACH;  // threads side by side
    static constexpr int THREADS = TILE_M / EACH * ACROSS;
};

// Blocks that share a multiprocessor at least: the compiler keeps to as many registers, with 8×8 sums
// 128 a thread and 168 for tiles of 48 columns. gpukit/backends/cuda/runtime/tiling.py counts with these numbers.
template <typename T, int TILE_M, int TILE_N, bool PACKED>
constexpr int BLOCKS = Tiling<TILE_M, TILE_N>::EACH == 8
                           ? (TILE_N == 48 ? 4 : 512 / Tiling<TILE_M, TILE_N>::THREADS)
                           : (sizeof(T) == 4 && TILE_N == 64 && PACKED ? 3 : 2);

// A row-major matrix as an operand. `extent` bounds m (or n), `k_end` bounds k.
template <typename T, bool IS_ALONG_K, bool IS_PACKED>
struct Matrix {
    static constexpr bool ALONG_K = IS_ALONG_K;
    static constexpr bool PACKED = IS_PACKED;
    using Lane = const T*;

    const T* base;
    int extent, k_end, stride;

    __device__ __forceinline__ Lane lane(int i) const {
        if (i >= extent) return nullptr;
        return base + (ALONG_K ? static_cast<long long>(i) * stride : i);
    }

    __device__ __forceinline__ Load<T, PACKED> load(Lane lane, int k, int, int) const {
        if (lane == nullptr || k >= k_end) return {};
        return *reinterpret_cast<const Load<T, PACKED>*>(
            lane + (ALONG_K ? k : static_cast<long long>(k) * stride));
    }

    // Whether something lies there, and where: for copies that pass no register.
    __device__ __forceinline__ bool find(Lane lane, int k, int, int, const T*& from) const {
        from = lane + (ALONG_K ? k : static_cast<long long>(k) * stride);
        return lane != nullptr && k < k_end;
    }
};

// Where line k of an operand's stage begins.
template <typename T, typename SOURCE, int EXTENT, int K>
struct Lines {
    static constexpr int PITCH = EXTENT + 4;
    static constexpr bool SKEWED = SOURCE::ALONG_K && SOURCE::PACKED && sizeof(T) == 4 && K > 8;
    static __host__ __device__ constexpr int at(int k) {
        return k * PITCH + (SKEWED ? k / 8 * 8 : 0);
    }
};

template <typename T, typename SOURCE, int EXTENT, int K>
using Stages = T[2][Lines<T, SOURCE, EXTENT, K>::at(K)];

// Brings one operand's steps from global memory to a stage, by all threads of the block.
template <typename T, typename SOURCE, int EXTENT, int K, int THREADS>
struct Reader {
    using Word = Load<T, SOURCE::PACKED>;
    using Stage = Lines<T, SOURCE, EXTENT, K>;
    static constexpr int V = Word::size;
    static constexpr int ACROSS = (SOURCE::ALONG_K ? K : EXTENT) / V;  // loads of a line in memory
    static constexpr int LINES = SOURCE::ALONG_K ? EXTENT : K;
    static constexpr int AT_ONCE = THREADS / ACROSS;
    static constexpr int PACKS = (LINES + AT_ONCE - 1) / AT_ONCE;  // a thread's
    static constexpr int LANES = SOURCE::ALONG_K ? PACKS : 1;
    static_assert(THREADS % ACROSS == 0, "a thread keeps its place in the line");

    typename SOURCE::Lane lanes[LANES];
    Word packs[PACKS];
    int line, place;

    __device__ __forceinline__ void start(const SOURCE& source, int first) {
        line = threadIdx.x / ACROSS;
        place = threadIdx.x % ACROSS * V;
#pragma unroll
        for (int i = 0; i < LANES; ++i)
            lanes[i] = source.lane(first + (SOURCE::ALONG_K ? line + i * AT_ONCE : place));
    }

    __device__ __forceinline__ bool mine(int i) const {
        return LINES % AT_ONCE == 0 || line + i * AT_ONCE < LINES;
    }

    __device__ __forceinline__ void fetch(const SOURCE& source, int k, int stage) {
#pragma unroll
        for (int i = 0; i < PACKS; ++i) {
            const int slot = SOURCE::ALONG_K ? place : line + i * AT_ONCE;
            if (mine(i)) packs[i] = source.load(lanes[SOURCE::ALONG_K ? i : 0], k + slot, slot, stage);
        }
    }

    __device__ __forceinline__ void store(T* stage) const {
#pragma unroll
        for (int i = 0; i < PACKS; ++i) {
            if (!mine(i)) continue;
            if constexpr (SOURCE::ALONG_K) {
#pragma unroll
                for (int j = 0; j < V; ++j)
                    stage[Stage::at(place) + j * Stage::PITCH + line + i * AT_ONCE] = packs[i].at[j];
            } else {
                *reinterpret_cast<Word*>(stage + Stage::at(line + i * AT_ONCE) + place) = packs[i];
            }
        }
    }
};

// Where in the tile a thread's i-th row (or column) lies; `mine` is its place among the threads.
template <int TILE, int EACH>
__device__ __forceinline__ int tile_index(int mine, int i) {
    return i / 4 * (TILE / (EACH / 4)) + mine * 4 + i % 4;
}

// A thread's EACH numbers of one line of a stage.
template <int TILE, int EACH, typename T>
__device__ __forceinline__ void read_line(const T* line, int mine, T (&out)[EACH]) {
    constexpr int V = Pack<T>::size;
#pragma unroll
    for (int i = 0; i < EACH; i += V) {
        const Pack<T> pack = load(line + tile_index<TILE, EACH>(mine, i));
#pragma unroll
        for (int j = 0; j < V; ++j) out[i + j] = pack.at[j];
    }
}

// No table: an operand that finds k by itself.
struct NoTable {
    static constexpr bool USED = false;
    __device__ __forceinline__ void prepare(int, int) const {}
};

// sums += a[first_m …, k_begin … k_end) · b[…, first_n …]. Every thread of the block calls this.
// `table.prepare(k, stage)` may fill a table in shared memory for the step that begins at k; it is
// called a whole step before the loads that read it.
template <int TILE_M, int TILE_N, typename T, typename A, typename B, typename TABLE>
__device__ __forceinline__ void multiply_tile(
    const A& a, const B& b, const TABLE& table, int first_m, int first_n, int k_begin, int k_end,
    Stages<T, A, TILE_M, Tiling<TILE_M, TILE_N>::K>& a_stages,
    Stages<T, B, TILE_N, Tiling<TILE_M, TILE_N>::K>& b_stages,
    T (&sums)[Tiling<TILE_M, TILE_N>::EACH][Tiling<TILE_M, TILE_N>::EACH]) {
    using Tile = Tiling<TILE_M, TILE_N>;
    constexpr int EACH = Tile::EACH, K = Tile::K;
    // Further unrolled, 16 of double would spill, and an input gradient's two operands along k.
    constexpr int UNROLL = sizeof(T) == 8 && TILE_N == 64                            ? 8
                           : EACH == 8 && TILE_N == 64 && TABLE::USED && B::ALONG_K ? 1
                                                                                      : Tile::UNROLL;
    const int row = threadIdx.x / Tile::ACROSS, column = threadIdx.x % Tile::ACROSS;
#pragma unroll
    for (int i = 0; i < EACH; ++i)
#pragma unroll
        for (int j = 0; j < EACH; ++j) sums[i][j] = T(0);
    if (k_begin >= k_end) return;

    Reader<T, A, TILE_M, K, Tile::THREADS> a_reader;
    Reader<T, B, TILE_N, K, Tile::THREADS> b_reader;
    a_reader.start(a, first_m);
    b_reader.start(b, first_n);
    if constexpr (TABLE::USED) {
        table.prepare(k_begin, 0);
        __syncthreads();
        table.prepare(k_begin + K, 1);
    }
    a_reader.fetch(a, k_begin, 0);
    b_reader.fetch(b, k_begin, 0);
    a_reader.store(a_stages[0]);
    b_reader.store(b_stages[0]);
    __syncthreads();

    // The last round fetches zeros: a branch around it would cost registers.
    int stage = 0;
    for (int k = k_begin; k < k_end; k += K) {
        a_reader.fetch(a, k + K, stage ^ 1);
        b_reader.fetch(b, k + K, stage ^ 1);
#pragma unroll(UNROLL)
        for (int i = 0; i < K; ++i) {
            T left[EACH], right[EACH];
            read_line<TILE_M, EACH>(a_stages[stage] + Lines<T, A, TILE_M, K>::at(i), row, left);
            read_line<TILE_N, EACH>(b_stages[stage] + Lines<T, B, TILE_N, K>::at(i), column, right);
#pragma unroll
            for (int y = 0; y < EACH; ++y)
#pragma unroll
                for (int x = 0; x < EACH; ++x) sums[y][x] += left[y] * right[x];
        }
        a_reader.store(a_stages[stage ^ 1]);
        b_reader.store(b_stages[stage ^ 1]);
        if constexpr (TABLE::USED) table.prepare(k + 2 * K, stage);
        __syncthreads();
        stage ^= 1;
    }
}

// Writes a thread's sums, finished by bias and activation. `row_of(m)` is where row m of the result
// begins (nullptr beyond the last); columns from n on are left out. `bias` may be null.
template <int TILE_M, int TILE_N, int ACTIVATION, int EACH, typename T, typename ROWS>
__device__ __forceinline__ void write_tile(const T (&sums)[EACH][EACH], const ROWS& row_of,
                                           int first_m, int first_n, int n, const T* bias) {
    using Tile = Tiling<TILE_M, TILE_N>;
    constexpr int V = Pack<T>::size;
    const int row = threadIdx.x / Tile::ACROSS, column = threadIdx.x % Tile::ACROSS;
    T offsets[EACH];
#pragma unroll
    for (int j = 0; j < EACH; ++j) {
        const int at = first_n + tile_index<TILE_N, EACH>(column, j);
        offsets[j] = bias != nullptr && at < n ? bias[at] : T(0);
    }
#pragma unroll
    for (int i = 0; i < EACH; ++i) {
        T* const out = row_of(first_m + tile_index<TILE_M, EACH>(row, i));
        if (out == nullptr) continue;
#pragma unroll
        for (int j = 0; j < EACH; j += V) {
            const int at = first_n + tile_index<TILE_N, EACH>(column, j);
            Pack<T> pack;
#pragma unroll
            for (int v = 0; v < V; ++v)
                pack.at[v] = activate<ACTIVATION>(sums[i][j + v] + offsets[j + v]);
            if (at + V <= n && aligned(out + at)) {
                ::store(out + at, pack);
            } else {
#pragma unroll
                for (int v = 0; v < V; ++v)
                    if (at + v < n) out[at + v] = pack.at[v];
            }
        }
    }
}
