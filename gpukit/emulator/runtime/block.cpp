// How a block is run: see block.h.
#include "block.h"

namespace gpukit_emulator {

__thread Now now __attribute__((tls_model("initial-exec")));
__thread Worker* worker __attribute__((tls_model("initial-exec"))) = nullptr;

void fiber_entry() {
#ifdef GPUKIT_ASAN
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
    worker->run_stack();
}

Index Worker::position(unsigned t) const {
    const Index& size = launch->block;
    return {t % size.x, t / size.x % size.y, t / size.x / size.y};
}

void Worker::run(Launch& given) {
    Worker* before = worker;
    worker = this;
    launch = &given;
    n_ = given.block.x * given.block.y * given.block.z;
    if (threads_.size() < n_) threads_.resize(n_);
    warps_.resize((n_ + 31) / 32);
    // No list grows while threads run: TSan would watch it being moved.
    ready_.reserve(n_);
    free_.reserve(n_ + stacks_.size() + 1);
    stacks_.reserve(n_ + stacks_.size() + 1);
    shared_.reserve(64);
    now.block_dim = given.block;
    now.grid_dim = given.grid;
    GPUKIT_TRACED(tracer.open(reinterpret_cast<const void*>(given.body), n_);)
#ifdef GPUKIT_TSAN
    watched_scheduler_ = __tsan_get_current_fiber();
#endif
    const Order blocks(given.blocks, given.seed, 1);
    while (!given.failed.load(std::memory_order_relaxed)) {
        const uint64_t i = given.next.fetch_add(1, std::memory_order_relaxed);
        if (i >= given.blocks) break;
        run_block(given.first_block + blocks(i));
    }
    happens_after(&finished_);
    free_shared();
    launch = nullptr;
    worker = before;
}

void Worker::run_block(uint64_t number) {
    const Index& grid = launch->grid;
    now.block = {static_cast<unsigned>(number % grid.x),
                 static_cast<unsigned>(number / grid.x % grid.y),
                 static_cast<unsigned>(number / grid.x / grid.y)};
    order_ = Order(n_, launch->seed, number + 2);
    phase_ = number;
    ++epoch_;
    next_ = gone_ = arrived_ = 0;
    ready_.clear();
    for (unsigned t = 0; t < n_; ++t) {
        threads_[t].state = State::NOT_STARTED;
        threads_[t].copies.clear();
        threads_[t].open_group = 0;
#ifdef GPUKIT_TSAN
        threads_[t].watched = __tsan_create_fiber(0);
        const Index p = position(t);
        char name[96];
        snprintf(name, sizeof name, "block (%u,%u,%u) thread (%u,%u,%u)", now.block.x, now.block.y,
                 now.block.z, p.x, p.y, p.z);
        __tsan_set_fiber_name(threads_[t].watched, name);
#endif
    }
    for (unsigned w = 0; w < warps_.size(); ++w) {
        const unsigned lanes = n_ - 32 * w;
        warps_[w].existing = lanes >= 32 ? ~0u : (1u << lanes) - 1;
        warps_[w].gone = 0;
        warps_[w].groups = 0;
    }
    // Whether waiting threads go on before new ones start is one more thing that a seed decides.
    const bool eager = launch->seed && Order::mix(launch->seed + number) % 2;
    while (gone_ < n_ && !launch->failed.load(std::memory_order_relaxed)) {
        if (!ready_.empty() && (eager || next_ >= n_)) {
            current = take_ready();
            threads_[current].state = State::RUNNING;
            now.thread = position(current);
            resume(threads_[current].fiber);
        } else if (next_ < n_) {
            if (free_.empty()) {
                stacks_.push_back(std::make_unique<Fiber>(fiber_entry));
                free_.push_back(stacks_.back().get());
            }
            Fiber* fresh = free_.back();
            free_.pop_back();
#ifdef GPUKIT_TSAN
            {
                Unwatched here;
                fresh->renew();
            }
#endif
            fresh->prepare(fiber_entry);
            start(next_++);
            GPUKIT_TRACED(tracer.start(current);)
            resume(fresh);
        } else {
            report_stuck();
        }
    }
    if (launch->failed) {  // Stacks of threads that will never go on are free again.
        free_.clear();
        for (auto& stack : stacks_) free_.push_back(stack.get());
    } else {
        check_canaries();
    }
    GPUKIT_TRACED(tracer.settle();)
#ifdef GPUKIT_TSAN
    for (unsigned t = 0; t < n_; ++t) __tsan_destroy_fiber(threads_[t].watched);
#endif
}

void Worker::start(unsigned number) {
    current = static_cast<unsigned>(order_(number));
    threads_[current].state = State::RUNNING;
    now.thread = position(current);
}

void Worker::run_stack() {
    launch->body(launch->arguments);
    free_.push_back(fiber_);
    stop();
    abort();  // a finished stack is prepared anew, not resumed
}

void Worker::leave() {
    Thread& me = threads_[current];
    me.state = State::GONE;
    happens_before(&finished_);
    ++gone_;
    Warp& mine = warps_[current / 32];
    mine.gone |= 1u << current % 32;
    for (int g = 0; g < mine.groups;)
        if (!complete(mine, g)) ++g;
}

bool Worker::next_thread() {
    leave();
    if (launch->failed.load(std::memory_order_relaxed)) stop();
#if !defined(GPUKIT_TSAN) && !defined(GPUKIT_TRACE)  // there, every thread starts at the beginning
    if (next_ < n_) {
        threads_[current].fiber = nullptr;
        start(next_++);
        return true;
    }
#endif
    return false;
}

void Worker::resume(Fiber* fiber) {
    fiber_ = fiber;
#ifdef GPUKIT_TSAN
    __tsan_switch_to_fiber(threads_[current].watched, TSAN_NO_SYNC);
#endif
#ifdef GPUKIT_ASAN
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, fiber->base, STACK);
#endif
    gpukit_switch(&scheduler_, fiber->stopped_at);
#ifdef GPUKIT_ASAN
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
    fiber_ = nullptr;
}

// Leaves this stack for the scheduler; returns when the thread on it may go on.
void Worker::stop() {
    Fiber* me = fiber_;
#ifdef GPUKIT_TSAN
    __tsan_switch_to_fiber(watched_scheduler_, TSAN_NO_SYNC);
#endif
#ifdef GPUKIT_ASAN
    __sanitizer_start_switch_fiber(&me->watched, main_bottom_, main_size_);
#endif
    gpukit_switch(&me->stopped_at, scheduler_);
#ifdef GPUKIT_ASAN
    __sanitizer_finish_switch_fiber(me->watched, &main_bottom_, &main_size_);
#endif
}

void Worker::wait(State state, const char* what, const char* file, int line) {
    Thread& me = threads_[current];
    me.state = state;
    me.fiber = fiber_;
    me.what = what;
    me.file = file;
    me.line = line;
    stop();
}

void Worker::make_ready(unsigned t) {
    threads_[t].state = State::READY;
    ready_.push_back(t);
}

unsigned Worker::take_ready() {
    size_t i = ready_.size() - 1;
    if (launch->seed) i = Order::mix(launch->seed ^ ++phase_ * 0x9E3779B97F4A7C15u) % ready_.size();
    std::swap(ready_[i], ready_.back());
    const unsigned t = ready_.back();
    ready_.pop_back();
    return t;
}

int Worker::barrier(int kind, int predicate, const char* what, const char* file, int line) {
    if (arrived_ == 0) {
        barrier_first_ = current;
        counted_ = any_ = 0;
        all_ = 1;
    } else {
        const Thread& first = threads_[barrier_first_];
        if (first.line != line || first.what != what)
            refuse(file, line, "divergent barrier: %s here, but %s is at %s in line %d", what,
                   place(barrier_first_).c_str(), first.what, first.line);
    }
    Thread& me = threads_[current];
    me.line = line;
    me.what = what;
    counted_ += predicate != 0;
    any_ |= predicate != 0;
    all_ &= predicate != 0;
    void* order = &barrier_order_[barriers_ & 1];
    happens_before(order);
    if (++arrived_ == n_) {
        result_ = kind == COUNT ? counted_ : kind == AND ? all_ : any_;
        arrived_ = 0;
        ++barriers_;
        GPUKIT_TRACED(tracer.settle();)
        for (unsigned i = 0; i < n_; ++i)
            if (i != current) make_ready(i);
        if (launch->seed) {  // the last to come need not be the first to go on
            make_ready(current);
            me.fiber = fiber_;
            stop();
        }
    } else {
        wait(State::AT_BARRIER, what, file, line);
    }
    happens_after(order);
    return result_;
}

unsigned Worker::active_lanes() {
    unsigned lanes = 0;
    const unsigned first = current / 32 * 32;
    for (unsigned lane = 0; lane < 32 && first + lane < n_; ++lane)
        if (threads_[first + lane].state != State::GONE) lanes |= 1u << lane;
    return lanes;
}

void Worker::warp(unsigned mask, void* slot, Combine combine, bool ordered, const char* what,
                  const char* file, int line) {
    Warp& mine = warps_[current / 32];
    const unsigned bit = 1u << current % 32;
    if (!(mask & bit))
        refuse(file, line, "%s: lane %u is missing from its own mask 0x%08x", what, current % 32, mask);
    int g = 0;
    while (g < mine.groups && !(mine.group[g].mask & mask)) ++g;
    if (g == mine.groups) {
        mine.group[mine.groups++] = {mask, 0, combine, what, file, line};
    } else {
        const Group& other = mine.group[g];
        if (other.mask != mask)
            refuse(file, line, "%s with mask 0x%08x, but %s wait in %s in line %d with mask 0x%08x",
                   what, mask, lanes(other.arrived).c_str(), other.what, other.line, other.mask);
        if (other.line != line || other.combine != combine)
            refuse(file, line, "divergent warp: %s here, but %s wait in %s in line %d", what,
                   lanes(other.arrived).c_str(), other.what, other.line);
    }
    mine.group[g].arrived |= bit;
    mine.slots[current % 32] = slot;
    if (ordered) happens_before(&mine.order);
    threads_[current].mask = mask;
    if (!complete(mine, g)) wait(State::IN_WARP, what, file, line);
    if (ordered) happens_after(&mine.order);
}

// If all lanes of group g have come, compute their results and let the others go on.
bool Worker::complete(Warp& mine, int g) {
    const Group group = mine.group[g];
    if (group.arrived != (group.mask & mine.existing & ~mine.gone) || !group.arrived) return false;
    mine.group[g] = mine.group[--mine.groups];
    if (group.combine) {
        void* slots[32];
        for (int lane = 0; lane < 32; ++lane)
            slots[lane] = group.arrived >> lane & 1 ? mine.slots[lane] : nullptr;
        GPUKIT_TRACED(tracer.paused = true;)
        group.combine(slots, group.arrived);
        GPUKIT_TRACED(tracer.paused = false;)
    }
    const unsigned first = static_cast<unsigned>(&mine - warps_.data()) * 32;
    for (unsigned lane = 0; lane < 32; ++lane)
        if ((group.arrived >> lane & 1) && first + lane != current) make_ready(first + lane);
    return true;
}

void* Worker::shared(const void* key, size_t size, size_t align, const char* name) {
    for (Shared& s : shared_) {
        if (s.key != key) continue;
        if (s.epoch != epoch_) {
            s.epoch = epoch_;
            memset(s.data, 0xff, size);
        }
        return s.data;
    }
    Unwatched here;
    char* whole;
#ifdef GPUKIT_ASAN
    // Ends where the heap block ends, and is aligned to no more than was asked for.
    const size_t before = align < 16 ? align : 0;
    whole = static_cast<char*>(malloc(before + size));
    char* data = whole + before;
#else
    (void)align;
    const size_t rounded = (2 * CANARY + size + 63) / 64 * 64;
    whole = static_cast<char*>(aligned_alloc(64, rounded));
    memset(whole, 0xC5, rounded);
    char* data = whole + CANARY;
#endif
    memset(data, 0xff, size);
    shared_.push_back({key, data, size, epoch_, name, whole});
    return data;
}

int Worker::shared_number(const void* address) const {
    for (size_t i = 0; i < shared_.size(); ++i)
        if (shared_[i].data <= address && address < shared_[i].data + shared_[i].size)
            return static_cast<int>(i);
    return -1;
}

void Worker::check_canaries() {
#ifndef GPUKIT_ASAN
    for (const Shared& s : shared_) {
        bool whole = true;
        for (size_t i = 0; i < CANARY; ++i)
            whole = whole && s.data[s.size + i] == '\xC5' && s.whole[i] == '\xC5';
        if (whole || launch->failed.exchange(true)) continue;
        report(0, "", 0, std::string("a thread of this block wrote outside of the shared array ") +
                             s.name + " (" + std::to_string(s.size) + " bytes)");
    }
#endif
#ifdef GPUKIT_TSAN
    free_shared();  // fresh memory for the next block
#endif
}

void Worker::free_shared() {
    Unwatched here;
    size_t bytes = 0;
    for (const Shared& s : shared_)
        if (s.key != &DYNAMIC) bytes += s.size;
    if (launch && bytes > launch->static_shared) launch->static_shared = bytes;
    for (Shared& s : shared_) free(s.whole);
    shared_.clear();
}

}  // namespace gpukit_emulator
