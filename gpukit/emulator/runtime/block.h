// One block at a time on one core: its threads, warps, barriers and shared memory.
//
// A thread runs on a stack until it has to wait; only then does the next one get a stack of its
// own. Kernels without barriers so run as a plain loop. Threads start and go on in an order that
// the seed shuffles, and the first of them that finds a rule broken ends the launch.
#pragma once

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "../include/gpukit_abi.h"
#include "fiber.h"

#ifdef GPUKIT_TRACE
#include "trace.h"
#define GPUKIT_TRACED(...) __VA_ARGS__
#else
#define GPUKIT_TRACED(...)
#endif

namespace gpukit_emulator {

using Body = void (*)(void** arguments);

struct Launch {
    const char* kernel;
    Body body;
    void** arguments;
    Index grid, block;
    size_t dynamic_shared;
    uint64_t seed;
    double limit = 0;  // seconds; 0 is none
    bool flush = false;  // subnormals of floats are zeros
    uint64_t first_block = 0, blocks = 0;  // those of the grid that run
    std::atomic<uint64_t> next{0};
    std::atomic<bool> failed{false};
    std::atomic<bool> told{false};
    std::atomic<size_t> static_shared{0};  // bytes a block
    char* message = nullptr;
    size_t message_size = 0;
};

// (a·i + b) mod n with a coprime to n: every number once, in an order that depends on the seed.
struct Order {
    uint64_t n = 1, a = 1, b = 0;

    Order() = default;
    Order(uint64_t count, uint64_t seed, uint64_t salt) : n(count) {
        if (!seed || count < 2) return;
        uint64_t bits = mix(seed * 0x9E3779B97F4A7C15u + salt);
        a = 1 + bits % n;
        while (divisor(a, n) != 1) a = a % n + 1;
        b = mix(bits) % n;
    }
    uint64_t operator()(uint64_t i) const {
        return a == 1 && b == 0 ? i : static_cast<uint64_t>(
            (static_cast<unsigned __int128>(a) * i + b) % n);
    }
    static uint64_t mix(uint64_t x) {
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
        x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
        return x ^ (x >> 31);
    }
    static uint64_t divisor(uint64_t x, uint64_t y) { return y ? divisor(y, x % y) : x; }
};

struct Copy {
    void* to;
    const void* from;
    unsigned bytes, given;
    void (*run)(void*, const void*, unsigned, unsigned);
    int group;
};

enum class State : uint8_t { NOT_STARTED, RUNNING, READY, AT_BARRIER, IN_WARP, GONE };

struct Thread {
    State state = State::NOT_STARTED;
    Fiber* fiber = nullptr;
    const char *what = "", *file = "";
    int line = 0;
    unsigned mask = 0;
    int open_group = 0;
    std::vector<Copy> copies;
    void* watched = nullptr;
};

struct Group {
    unsigned mask, arrived;
    Combine combine;
    const char *what, *file;
    int line;
};

struct Warp {
    unsigned existing = 0, gone = 0;
    int groups = 0;
    Group group[32];
    void* slots[32];
    char order = 0;  // its address stands for "this warp" to TSan
};

constexpr size_t CANARY = 64;
inline constexpr char DYNAMIC = 0;  // its address is the key of extern shared memory

struct Shared {
    const void* key;
    char* data;
    size_t size;
    uint64_t epoch;
    const char* name;
    char* whole;
};

void fiber_entry();

class Worker {
public:
    Launch* launch = nullptr;
    unsigned current = 0;

    void run(Launch& given);
    void run_stack();
    bool next_thread();
    int barrier(int kind, int predicate, const char* what, const char* file, int line);
    void warp(unsigned mask, void* slot, Combine combine, bool ordered, const char* what,
              const char* file, int line);
    unsigned active_lanes();
    void* shared(const void* key, size_t size, size_t align, const char* name);
    Thread& thread() { return threads_[current]; }
    // The shared array that holds an address, -1 if none does.
    int shared_number(const void* address) const;
    const Shared& shared_array(int number) const { return shared_[number]; }
    bool in_kernel() const { return fiber_ != nullptr; }
    [[noreturn]] void fail(const char* file, int line, const char* text);

private:
    void run_block(uint64_t number);
    void start(unsigned t);
    void leave();
    void resume(Fiber* fiber);
    void stop();
    void wait(State state, const char* what, const char* file, int line);
    bool complete(Warp& warp, int g);
    void make_ready(unsigned t);
    unsigned take_ready();
    [[noreturn]] void refuse(const char* file, int line, const char* format, ...)
        __attribute__((format(printf, 4, 5)));
    void report_stuck();
    void report(unsigned t, const char* file, int line, const std::string& text);
    void check_canaries();
    void free_shared();
    std::string lanes(unsigned mask) const;
    std::string place(unsigned t) const;
    Index position(unsigned t) const;

    std::vector<Thread> threads_;
    std::vector<Warp> warps_;
    std::vector<unsigned> ready_;
    std::vector<std::unique_ptr<Fiber>> stacks_;
    std::vector<Fiber*> free_;
    std::vector<Shared> shared_;
    Order order_;
    Fiber* fiber_ = nullptr;
    void* scheduler_ = nullptr;
    void* watched_scheduler_ = nullptr;
    const void* main_bottom_ = nullptr;
    size_t main_size_ = 0;
    unsigned n_ = 0, next_ = 0, gone_ = 0, arrived_ = 0, barrier_first_ = 0;
    int counted_ = 0, all_ = 1, any_ = 0, result_ = 0;
    uint64_t phase_ = 0, epoch_ = 0, barriers_ = 0;
    char barrier_order_[2] = {0, 0}, finished_ = 0;
};

extern __thread Worker* worker;

}  // namespace gpukit_emulator
