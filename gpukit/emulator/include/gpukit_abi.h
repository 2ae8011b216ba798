// What compiled kernels and the emulator's runtime say to each other.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace gpukit_emulator {

struct Index {
    unsigned x, y, z;
};

// Where the CUDA thread that now runs on this core stands.
struct Now {
    Index thread, block, block_dim, grid_dim;
};

// The runtime is loaded first, so kernels reach this without a call.
extern __thread Now now __attribute__((tls_model("initial-exec")));

enum Barrier : int { PLAIN, COUNT, AND, OR };

// A warp operation: slots[lane] is what that lane deposited (null: not among those that came).
using Combine = void (*)(void** slots, unsigned lanes);

}  // namespace gpukit_emulator

extern "C" {

// Ends the launch with this message, at this line of the source.
[[noreturn]] void gpukit_fault(const char* file, int line, const char* format, ...)
    __attribute__((format(printf, 3, 4)));

// The calling CUDA thread is done; true: this stack carries on as another one (`now` is set).
bool gpukit_next_thread();

// Shared memory of the block that runs on this core, filled with NaN when the block first asks.
void* gpukit_static_shared(const void* key, size_t size, size_t align, const char* name);
void* gpukit_dynamic_shared(const char* file, int line);

int gpukit_barrier(int kind, int predicate, const char* what, const char* file, int line);

// All lanes of `mask` come, the last of them computes all results. `ordered`: a memory barrier too.
void gpukit_warp(unsigned mask, void* slot, gpukit_emulator::Combine combine, bool ordered,
                 const char* what, const char* file, int line);
unsigned gpukit_lane();
unsigned gpukit_active_lanes();

// cp.async: nothing is copied before the wait that demands it.
void gpukit_copy_async(void* to, const void* from, unsigned bytes, unsigned given,
                       void (*copy)(void*, const void*, unsigned, unsigned));
void gpukit_copy_commit();
void gpukit_copy_wait(int groups_left);

}  // extern "C"
