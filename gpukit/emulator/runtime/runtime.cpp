// The emulator's runtime: launches spread over the cores, and what kernels call.
//
// Compiled once for each build (plain, ASan, TSan, trace); compiled kernels are loaded after it.
#include "block.cpp"
#include "report.cpp"
#ifdef GPUKIT_TRACE
#include "trace.cpp"
#endif

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

using namespace gpukit_emulator;

namespace {

#if !defined(GPUKIT_ASAN) && !defined(GPUKIT_TSAN)
// A memory fault within a kernel ends the launch, not the process.
void on_signal(int number, siginfo_t* info, void*) {
    if (worker && worker->in_kernel()) {
        char text[128];
        if (number == SIGFPE)
            snprintf(text, sizeof text, "whole-number division by zero");
        else
            snprintf(text, sizeof text, "%s at address %p",
                     number == SIGBUS ? "bus error" : "illegal or misaligned memory access",
                     info->si_addr);
        worker->fail("", 0, text);
    }
    signal(number, SIG_DFL);
    raise(number);
}

constexpr int SIGNALS[] = {SIGSEGV, SIGBUS, SIGFPE};

// Sent to the threads of a launch that takes too long; whoever else gets it ignores it by default.
constexpr int OVERTIME = SIGURG;

void on_overtime(int, siginfo_t*, void*) {
    if (!worker || !worker->in_kernel()) return;
    char text[96];
    snprintf(text, sizeof text, "the launch took more than %g s (GPUKIT_EMU_LIMIT)",
             worker->launch->limit);
    worker->fail("", 0, text);
}
#endif

struct Handlers {
#if defined(GPUKIT_ASAN) || defined(GPUKIT_TSAN)
    Handlers() {}
#else
    struct sigaction before[3], before_overtime;
    Handlers() {
        struct sigaction ours = {};
        ours.sa_sigaction = on_signal;
        ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        for (int i = 0; i < 3; ++i) sigaction(SIGNALS[i], &ours, &before[i]);
        ours.sa_sigaction = on_overtime;
        sigaction(OVERTIME, &ours, &before_overtime);
    }
    ~Handlers() {
        for (int i = 0; i < 3; ++i) sigaction(SIGNALS[i], &before[i], nullptr);
        sigaction(OVERTIME, &before_overtime, nullptr);
    }
#endif
};

// Handlers need a stack of their own: a fiber's may be what has overflowed.
struct SignalStack {
    stack_t before = {};
    void* memory = nullptr;
    SignalStack() {
        stack_t ours = {};
        ours.ss_size = 64 << 10;
        ours.ss_sp = memory = malloc(ours.ss_size);
        sigaltstack(&ours, &before);
    }
    ~SignalStack() {
        sigaltstack(&before, nullptr);
        free(memory);
    }
};

// Single precision's subnormals are zeros, as operands and as results, while one of these lives: what
// CuPy's -ftz=true makes of kernels. Each thread has such a switch.
struct Flushing {
    bool on;
    explicit Flushing(bool wanted) : on(wanted) {
        if (on) set(true);
    }
    ~Flushing() {
        if (on) set(false);
    }

private:
    static void set(bool flush) {
#if defined(__x86_64__)
        constexpr unsigned BITS = 0x8040;  // flush to zero, denormals are zeros
        const unsigned now = __builtin_ia32_stmxcsr();
        __builtin_ia32_ldmxcsr(flush ? now | BITS : now & ~BITS);
#else
        constexpr uint64_t BIT = 1u << 24;  // FZ
        uint64_t now;
        asm volatile("mrs %0, fpcr" : "=r"(now));
        now = flush ? now | BIT : now & ~BIT;
        asm volatile("msr fpcr, %0" : : "r"(now));
#endif
    }
};

class Pool {
public:
    // Runs the launch on this thread and up to `helpers` others.
    void run(Launch& launch, int helpers) {
        if (pid_ != getpid()) {  // threads do not survive a fork
            new (&wake_) std::condition_variable;
            new (&done_) std::condition_variable;
            new (&mutex_) std::mutex;
            count_ = 0;
            handles_.clear();
            watched_ = false;
            pid_ = getpid();
        }
        {
            std::lock_guard<std::mutex> lock(mutex_);
            while (count_ < helpers) {
                std::thread helper([this, number = count_] { serve(number); });
                handles_.push_back(helper.native_handle());
                helper.detach();
                ++count_;
            }
            if (!watched_) {
                std::thread([this] { watch(); }).detach();
                watched_ = true;
            }
            caller_ = pthread_self();
            launch_ = &launch;
            begun_ = Clock::now();
            wanted_ = helpers;
            busy_ = helpers;
            ++turn_;
        }
        if (helpers) wake_.notify_all();
        {
            Flushing here(launch.flush);
            mine_.run(launch);
        }
        std::unique_lock<std::mutex> lock(mutex_);
        done_.wait(lock, [this] { return busy_ == 0; });
        launch_ = nullptr;
    }

private:
    using Clock = std::chrono::steady_clock;

    // Interrupts, again and again until it is over, a launch that has passed its limit.
    void watch() {
        for (;;) {
            std::this_thread::sleep_for(std::chrono::milliseconds(200));
#if !defined(GPUKIT_ASAN) && !defined(GPUKIT_TSAN)
            std::lock_guard<std::mutex> lock(mutex_);
            if (!launch_ || !(launch_->limit > 0)) continue;
            if (std::chrono::duration<double>(Clock::now() - begun_).count() < launch_->limit) continue;
            pthread_kill(caller_, OVERTIME);
            for (int i = 0; i < wanted_; ++i) pthread_kill(handles_[i], OVERTIME);
#endif
        }
    }

    void serve(int number) {
        SignalStack stack;
        Worker own;
        uint64_t seen = 0;
        for (;;) {
            Launch* launch;
            {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, [&] { return turn_ != seen && number < wanted_; });
                seen = turn_;
                launch = launch_;
            }
            {
                Flushing here(launch->flush);
                own.run(*launch);
            }
            std::lock_guard<std::mutex> lock(mutex_);
            if (--busy_ == 0) done_.notify_one();
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_, done_;
    Launch* launch_ = nullptr;
    int wanted_ = 0, busy_ = 0, count_ = 0;
    uint64_t turn_ = 0;
    pid_t pid_ = 0;
    std::vector<pthread_t> handles_;
    pthread_t caller_ = {};
    Clock::time_point begun_;
    bool watched_ = false;
    Worker mine_;
};

Pool& pool() {
    static Pool* made = new Pool;  // never destroyed: helpers may outlive main
    return *made;
}

std::mutex one_launch;
thread_local const char* launching = "";

}  // namespace

extern "C" {

struct Request {
    const char* kernel;
    Body body;
    void** arguments;
    unsigned grid[3], block[3];
    size_t dynamic_shared;
    uint64_t seed;
    double limit;
    uint64_t first_block, blocks;
    int threads, flush;
    char* message;
    size_t message_size;
    size_t static_shared;  // bytes a block, an answer
};

// 0, or 1 with a message.
int gpukit_launch(Request* request) {
    std::lock_guard<std::mutex> only(one_launch);
    Launch launch{request->kernel, request->body, request->arguments,
                  {request->grid[0], request->grid[1], request->grid[2]},
                  {request->block[0], request->block[1], request->block[2]},
                  request->dynamic_shared, request->seed};
    launch.limit = request->limit;
    launch.flush = request->flush;
    launch.message = request->message;
    launch.message_size = request->message_size;
    launch.first_block = request->first_block;
    launch.blocks = request->blocks;
    const uint64_t threads =
        launch.blocks * launch.block.x * launch.block.y * launch.block.z;
    int helpers = request->threads - 1;
    if (static_cast<uint64_t>(helpers) >= launch.blocks) helpers = static_cast<int>(launch.blocks) - 1;
    if (threads < 512) helpers = 0;
#if defined(GPUKIT_TSAN) || defined(GPUKIT_TRACE)
    helpers = 0;
#endif
    Handlers handlers;
    SignalStack stack;
    launching = request->kernel;
    pool().run(launch, helpers);
    launching = "";
    request->static_shared = launch.static_shared;
    return launch.failed ? 1 : 0;
}

// Where a sanitizer found what it prints: for its death callback.
void gpukit_where() {
    if (!worker || !worker->in_kernel()) return;
    fprintf(stderr, "gpukit: kernel %s, block (%u,%u,%u), thread (%u,%u,%u)\n",
            worker->launch->kernel, now.block.x, now.block.y, now.block.z, now.thread.x,
            now.thread.y, now.thread.z);
}

void gpukit_fault(const char* file, int line, const char* format, ...) {
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    worker->fail(file, line, text);
}

bool gpukit_next_thread() { return worker->next_thread(); }

void* gpukit_static_shared(const void* key, size_t size, size_t align, const char* name) {
    return worker->shared(key, size, align, name);
}

void* gpukit_dynamic_shared(const char* file, int line) {
    const size_t size = worker->launch->dynamic_shared;
    if (!size) gpukit_fault(file, line, "uses extern __shared__ memory; launch with shared=BYTES");
    return worker->shared(&DYNAMIC, size, 16, "extern __shared__");
}

int gpukit_barrier(int kind, int predicate, const char* what, const char* file, int line) {
    return worker->barrier(kind, predicate, what, file, line);
}

void gpukit_warp(unsigned mask, void* slot, Combine combine, bool ordered, const char* what,
                 const char* file, int line) {
    worker->warp(mask, slot, combine, ordered, what, file, line);
}

unsigned gpukit_lane() { return worker->current % 32; }

unsigned gpukit_active_lanes() { return worker->active_lanes(); }

void gpukit_copy_async(void* to, const void* from, unsigned bytes, unsigned given,
                       void (*copy)(void*, const void*, unsigned, unsigned)) {
    Unwatched here;
    Thread& me = worker->thread();
    me.copies.push_back({to, from, bytes, given, copy, me.open_group});
    GPUKIT_TRACED(tracer.copy(worker->current, __builtin_return_address(0), to, from, bytes, given);)
}

void gpukit_copy_commit() { ++worker->thread().open_group; }

void gpukit_copy_wait(int groups_left) {
    Thread& me = worker->thread();
    const int done = groups_left < 0 ? me.open_group : me.open_group - 1 - groups_left;
    size_t kept = 0;
    for (size_t i = 0; i < me.copies.size(); ++i) {
        const Copy copy = me.copies[i];
        if (copy.group > done) {
            me.copies[kept++] = copy;
            continue;
        }
        GPUKIT_TRACED(tracer.paused = true;)
        copy.run(copy.to, copy.from, copy.bytes, copy.given);
        GPUKIT_TRACED(tracer.paused = false;)
    }
    me.copies.resize(kept);
}

}  // extern "C"

#if defined(GPUKIT_ASAN)
extern "C" void __sanitizer_set_death_callback(void (*callback)());
namespace {
struct Told {
    Told() {
        __sanitizer_set_death_callback(gpukit_where);
        // UBSan is a library of its own, with a callback of its own.
        using Set = void (*)(void (*)());
        if (void* ubsan = dlopen("libubsan.so.1", RTLD_NOW | RTLD_NOLOAD))
            if (auto set = reinterpret_cast<Set>(dlsym(ubsan, "__sanitizer_set_death_callback")))
                if (set != &__sanitizer_set_death_callback) set(gpukit_where);
    }
} told;
}  // namespace
#endif
