// Warp operations: every lane deposits, the last to arrive computes the results of all.
#pragma once

#define GPUKIT_UNSEEN __attribute__((no_sanitize("thread", "address", "undefined")))

namespace gpukit_emulator {

enum class Move { INDEX, UP, DOWN, XOR };

template <class T> struct Exchange {
    T value, result;
    int argument, width;
    Move move;
    const char *what, *file;
    int line;
};

inline int source_lane(int lane, int argument, int width, Move move) {
    const int first = lane & ~(width - 1), last = first + width - 1;
    int from = lane;
    if (move == Move::INDEX) return first + (argument & (width - 1));
    if (move == Move::UP) from = lane - argument;
    if (move == Move::DOWN) from = lane + argument;
    if (move == Move::XOR) return (lane ^ argument) > last ? lane : lane ^ argument;
    return from < first || from > last ? lane : from;
}

template <class T> GPUKIT_UNSEEN void exchange_all(void** slots, unsigned) {
    for (int lane = 0; lane < 32; ++lane) {
        if (!slots[lane]) continue;
        auto& mine = *static_cast<Exchange<T>*>(slots[lane]);
        const int from = source_lane(lane, mine.argument, mine.width, mine.move);
        if (!slots[from])
            gpukit_fault(mine.file, mine.line, "%s: lane %d reads from lane %d, which takes no part",
                         mine.what, lane, from);
        memcpy(&mine.result, &static_cast<Exchange<T>*>(slots[from])->value, sizeof(T));
    }
}

template <class T>
inline T exchange(unsigned mask, T value, int argument, int width, Move move, const char* what,
                  const char* file, int line) {
    if (width < 1 || width > 32 || (width & (width - 1)))
        gpukit_fault(file, line, "%s: width %d is no power of two up to 32", what, width);
    Exchange<T> slot{value, value, argument, width, move, what, file, line};
    gpukit_warp(mask, &slot, exchange_all<T>, false, what, file, line);
    return slot.result;
}

struct Ballot {
    unsigned value, result;
};

GPUKIT_UNSEEN inline void ballot_all(void** slots, unsigned lanes) {
    unsigned votes = 0;
    for (int lane = 0; lane < 32; ++lane)
        if (slots[lane] && static_cast<Ballot*>(slots[lane])->value) votes |= 1u << lane;
    for (int lane = 0; lane < 32; ++lane)
        if (lanes >> lane & 1) static_cast<Ballot*>(slots[lane])->result = votes;
}


inline unsigned ballot(unsigned mask, int predicate, const char* what, const char* file, int line) {
    Ballot slot{predicate != 0, 0};
    gpukit_warp(mask, &slot, ballot_all, false, what, file, line);
    return slot.result;
}

template <class T> struct Reduction {
    T value, result;
    int kind;
};

template <class T> GPUKIT_UNSEEN void reduce_all(void** slots, unsigned) {
    bool first = true;
    T total{};
    for (int lane = 0; lane < 32; ++lane) {
        if (!slots[lane]) continue;
        const auto& slot = *static_cast<Reduction<T>*>(slots[lane]);
        const T v = slot.value;
        if (first) total = v;
        else
            switch (slot.kind) {
                case 0: total = total + v; break;
                case 1: total = v < total ? v : total; break;
                case 2: total = total < v ? v : total; break;
                case 3: total = total & v; break;
                case 4: total = total | v; break;
                default: total = total ^ v; break;
            }
        first = false;
    }
    for (int lane = 0; lane < 32; ++lane)
        if (slots[lane]) static_cast<Reduction<T>*>(slots[lane])->result = total;
}

// For stand-ins of warp-wide instructions (ptx.cuh): all 32 lanes deposit `slot`.
template <class Slot>
inline void together(Slot& slot, Combine combine, const char* what, const char* file, int line) {
    gpukit_warp(0xffffffffu, &slot, combine, false, what, file, line);
}


// Copies and fills with zeros; watched by the sanitizers, unlike what the runtime does itself.
inline void copy_now(void* to, const void* from, unsigned bytes, unsigned given) {
    for (unsigned i = 0; i < bytes; ++i)
        static_cast<char*>(to)[i] = i < given ? static_cast<const char*>(from)[i] : char(0);
}

inline void copy_async(void* to, const void* from, unsigned bytes, unsigned given,
                       const char* file, int line) {
    if ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from)) % bytes)
        gpukit_fault(file, line, "cp.async of %u bytes between addresses that are not multiples of it",
                     bytes);
    gpukit_copy_async(to, from, bytes, given, copy_now);
}

}  // namespace gpukit_emulator

template <class T>
static inline T __shfl_sync(unsigned mask, T v, int lane, int width = 32, GPUKIT_HERE) {
    return gpukit_emulator::exchange(mask, v, lane, width, gpukit_emulator::Move::INDEX,
                                     "__shfl_sync()", file, line);
}
template <class T>
static inline T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32, GPUKIT_HERE) {
    return gpukit_emulator::exchange(mask, v, static_cast<int>(delta), width,
                                     gpukit_emulator::Move::UP, "__shfl_up_sync()", file, line);
}
template <class T>
static inline T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32, GPUKIT_HERE) {
    return gpukit_emulator::exchange(mask, v, static_cast<int>(delta), width,
                                     gpukit_emulator::Move::DOWN, "__shfl_down_sync()", file, line);
}
template <class T>
static inline T __shfl_xor_sync(unsigned mask, T v, int lanes, int width = 32, GPUKIT_HERE) {
    return gpukit_emulator::exchange(mask, v, lanes, width, gpukit_emulator::Move::XOR,
                                     "__shfl_xor_sync()", file, line);
}

static inline void __syncwarp(unsigned mask = 0xffffffffu, GPUKIT_HERE) {
    gpukit_warp(mask, nullptr, nullptr, true, "__syncwarp()", file, line);
}
static inline unsigned __ballot_sync(unsigned mask, int predicate, GPUKIT_HERE) {
    return gpukit_emulator::ballot(mask, predicate, "__ballot_sync()", file, line);
}
static inline int __any_sync(unsigned mask, int predicate, GPUKIT_HERE) {
    return gpukit_emulator::ballot(mask, predicate, "__any_sync()", file, line) != 0;
}
static inline int __all_sync(unsigned mask, int predicate, GPUKIT_HERE) {
    return gpukit_emulator::ballot(mask, !predicate, "__all_sync()", file, line) == 0;
}
static inline unsigned __activemask() { return gpukit_active_lanes(); }

#define GPUKIT_REDUCE(NAME, KIND) \
    template <class T> static inline T NAME(unsigned mask, T v, GPUKIT_HERE) { \
        gpukit_emulator::Reduction<T> slot{v, v, KIND}; \
        gpukit_warp(mask, &slot, gpukit_emulator::reduce_all<T>, false, #NAME "()", file, line); \
        return slot.result; \
    }
GPUKIT_REDUCE(__reduce_add_sync, 0)
GPUKIT_REDUCE(__reduce_min_sync, 1)
GPUKIT_REDUCE(__reduce_max_sync, 2)
GPUKIT_REDUCE(__reduce_and_sync, 3)
GPUKIT_REDUCE(__reduce_or_sync, 4)
GPUKIT_REDUCE(__reduce_xor_sync, 5)
#undef GPUKIT_REDUCE
