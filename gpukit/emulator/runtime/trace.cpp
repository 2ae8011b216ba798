// How requests are made of what single threads did: see trace.h.
#include "trace.h"

#include <dlfcn.h>

#include <algorithm>

#include "block.h"

namespace gpukit_emulator {

Tracer tracer;

constexpr size_t MOST_EVENTS = 24u << 20;  // of a block between barriers: about 1 GB
constexpr uint64_t SECTOR = 32;            // bytes
constexpr uint64_t BANKS = 32;             // of 4 bytes

void Tracer::open(const void* entry, unsigned threads) {
    entry_ = static_cast<const char*>(entry);
    most_ = MOST_EVENTS / threads;
    if (events_.size() < threads) events_.resize(threads);
    contexts_of_.resize(events_.size());
    for (auto& list : events_) list.clear();
    paused = false;
}

void Tracer::enter(unsigned thread, const void* call) {
    const int64_t place = static_cast<const char*>(call) - entry_;
    const uint32_t parent = contexts_of_[thread];
    const auto [at, is_new] =
        known_.try_emplace({parent, place}, static_cast<uint32_t>(contexts_.size()));
    if (is_new) contexts_.push_back({parent, place, contexts_[parent].depth + 1});
    contexts_of_[thread] = at->second;
}

void Tracer::leave(unsigned thread) { contexts_of_[thread] = contexts_[contexts_of_[thread]].parent; }

void Tracer::push(unsigned thread, const Event& event) {
    if (events_[thread].size() < most_)
        events_[thread].push_back(event);
    else
        cut_ = true;
}

void Tracer::step(unsigned thread, const void* code) {
    push(thread, {static_cast<const char*>(code) - entry_, 0, contexts_of_[thread], 0, STEP, 0});
}

// Stacks, constants and what else belongs to no array are not the card's memory.
void Tracer::access(unsigned thread, const void* code, uint8_t kind, const void* address,
                    size_t bytes) {
    const uint64_t a = reinterpret_cast<uint64_t>(address);
    Event event{static_cast<const char*>(code) - entry_, 0, contexts_of_[thread], 0, kind, 0};
    uint64_t begin = 0;
    int shared = worker->shared_number(address);
    if (shared >= 0) {
        const Shared& found = worker->shared_array(shared);
        begin = reinterpret_cast<uint64_t>(found.data);
        event.array = static_cast<int16_t>(-1 - shared);
        if (static_cast<int>(shared_.size()) <= shared) shared_.resize(shared + 1);
        if (shared_[shared].empty()) shared_[shared] = found.name;
    } else {
        size_t i = 0;
        while (i < arrays_.size() && !(arrays_[i].begin <= a && a < arrays_[i].end)) ++i;
        if (i == arrays_.size()) return;
        begin = arrays_[i].begin;
        event.array = static_cast<int16_t>(i);
    }
    // A structure is moved in the widest pieces that its place allows.
    size_t piece = bytes;
    if (bytes > 16 || (bytes & (bytes - 1)))
        for (piece = 16; piece > 1 && (a % piece || bytes % piece);) piece /= 2;
    event.bytes = static_cast<uint8_t>(piece);
    for (size_t done = 0; done < bytes; done += piece) {
        event.offset = a + done - begin;
        push(thread, event);
    }
}

// An asynchronous copy asks twice: global memory for what is given, shared memory for all of it.
void Tracer::copy(unsigned thread, const void* code, const void* to, const void* from,
                  unsigned bytes, unsigned given) {
    if (given) access(thread, code, COPY_ASYNC, from, bytes);
    access(thread, static_cast<const char*>(code) + 1, COPY_ASYNC, to, bytes);
}

// Which of two lanes goes on: one inside a call before one that is back from it, then the one
// whose code comes first. Lanes that took different ways so meet where the ways do.
bool Tracer::comes_first(const Event& a, const Event& b) const {
    if (a.context != b.context) {
        const int first = contexts_[a.context].depth, second = contexts_[b.context].depth;
        return first != second ? first > second : a.context < b.context;
    }
    return a.place < b.place;
}

void Tracer::settle() {
    for (unsigned w = 0; w < (events_.size() + 31) / 32; ++w) settle(w);
}

void Tracer::settle(unsigned warp) {
    const size_t first = warp * 32, count = std::min<size_t>(32, events_.size() - first);
    size_t at[32] = {};
    for (;;) {
        const Event* next = nullptr;
        for (size_t lane = 0; lane < count; ++lane) {
            const auto& list = events_[first + lane];
            if (at[lane] < list.size() && (!next || comes_first(list[at[lane]], *next)))
                next = &list[at[lane]];
        }
        if (!next) break;
        const Event* together[32] = {};
        for (size_t lane = 0; lane < count; ++lane) {
            const auto& list = events_[first + lane];
            if (at[lane] == list.size()) continue;
            const Event& event = list[at[lane]];
            if (event.place != next->place || event.context != next->context) continue;
            together[lane] = &event;
            ++at[lane];
        }
        if (next->kind == STEP) continue;
        // Lanes that address different arrays by one instruction ask for each of them apart.
        for (;;) {
            const Event* lanes[32] = {};
            const Event* one = nullptr;
            for (int lane = 0; lane < 32; ++lane) {
                const Event* event = together[lane];
                if (!event || (one && (event->array != one->array || event->kind != one->kind ||
                                       event->bytes != one->bytes)))
                    continue;
                one = lanes[lane] = event;
                together[lane] = nullptr;
            }
            if (!one) break;
            request(lanes);
        }
    }
    for (size_t lane = 0; lane < count; ++lane) events_[first + lane].clear();
}

static size_t distinct(std::vector<uint64_t>& values) {
    std::sort(values.begin(), values.end());
    values.erase(std::unique(values.begin(), values.end()), values.end());
    return values.size();
}

// How often shared memory has to be asked to serve lanes `from` … `to`: once for each different
// word of the fullest bank. Lanes that read one word share it; atomic operations take turns.
static uint64_t ways(const Event* const* lanes, int from, int to) {
    std::vector<uint64_t> words;
    bool share = true;
    for (int lane = from; lane < to; ++lane) {
        if (!lanes[lane]) continue;
        const uint64_t last = lanes[lane]->offset + lanes[lane]->bytes - 1;
        for (uint64_t word = lanes[lane]->offset / 4; word <= last / 4; ++word) words.push_back(word);
        share = lanes[lane]->kind != ATOMIC;
    }
    if (share) distinct(words);
    uint64_t inside[BANKS] = {};
    for (uint64_t word : words) ++inside[word % BANKS];
    return *std::max_element(inside, inside + BANKS);
}

void Tracer::request(const Event* const* lanes) {
    const Event* one = *std::find_if(lanes, lanes + 32, [](const Event* e) { return e; });
    Totals& sum = totals_[{one->context, one->place, one->kind, one->bytes, one->array}];
    ++sum.requests;
    for (int lane = 0; lane < 32; ++lane) sum.lanes += lanes[lane] != nullptr;
    if (one->array < 0) {
        const int part = 32 / std::max(1, one->bytes / 4);
        uint64_t most = 0;
        for (int lane = 0; lane < 32; lane += part) {
            const uint64_t found = ways(lanes, lane, lane + part);
            sum.wavefronts += found;
            sum.parts += found > 0;
            most = std::max(most, found);
        }
        sum.worst = std::max(sum.worst, most);
        return;
    }
    std::vector<uint64_t> sectors, bytes;
    for (int lane = 0; lane < 32; ++lane) {
        if (!lanes[lane]) continue;
        const uint64_t a = lanes[lane]->offset;
        for (uint64_t s = a / SECTOR; s <= (a + one->bytes - 1) / SECTOR; ++s) sectors.push_back(s);
        for (uint64_t b = a; b < a + one->bytes; ++b) bytes.push_back(b);
    }
    const uint64_t found = distinct(sectors);
    sum.sectors += found;
    sum.least += (distinct(bytes) + SECTOR - 1) / SECTOR;
    sum.worst = std::max(sum.worst, found);
}

std::vector<Traced> Tracer::take() {
    std::vector<Traced> list;
    Dl_info library = {};
    dladdr(entry_, &library);
    const uint64_t start = reinterpret_cast<uint64_t>(entry_) -
                           reinterpret_cast<uint64_t>(library.dli_fbase);
    for (const auto& [key, totals] : totals_) {
        const auto& [context, place, kind, bytes, array] = key;
        Traced made = {};
        // Return addresses: the call itself lies before.
        made.frames[0] = start + static_cast<uint64_t>(place) - 1;
        uint32_t c = context;
        for (int i = 1; i < MOST_FRAMES && c; ++i, c = contexts_[c].parent)
            made.frames[i] = start + static_cast<uint64_t>(contexts_[c].call) - 1;
        made.argument = array;
        if (array < 0) snprintf(made.array, sizeof made.array, "%s", shared_[-1 - array].c_str());
        made.kind = kind;
        made.bytes = bytes;
        made.cut = cut_;
        made.totals = totals;
        list.push_back(made);
    }
    totals_.clear();
    contexts_.assign(1, {0, 0, 0});
    known_.clear();
    shared_.clear();
    cut_ = false;
    return list;
}

static bool listens() { return worker && worker->in_kernel() && !tracer.paused; }

static void saw(const void* code, uint8_t kind, const void* address, size_t bytes) {
    if (listens()) tracer.access(worker->current, code, kind, address, bytes);
}

}  // namespace gpukit_emulator

using namespace gpukit_emulator;

#define HERE __builtin_return_address(0)

extern "C" {

void gpukit_trace_arrays(const Extent* arrays, int count) { tracer.arrays(arrays, count); }

// How many records there are; up to `most` of them are written to `out`, then all are forgotten.
size_t gpukit_trace_take(Traced* out, size_t most) {
    static std::vector<Traced> ready;
    if (!out) {
        ready = tracer.take();
        return ready.size();
    }
    std::copy_n(ready.begin(), std::min(most, ready.size()), out);
    return ready.size();
}

void __tsan_init() {}
void __tsan_func_entry(void* call) {
    if (listens()) tracer.enter(worker->current, call);
}
void __tsan_func_exit() {
    if (listens()) tracer.leave(worker->current);
}
void __sanitizer_cov_trace_pc() {
    if (listens()) tracer.step(worker->current, HERE);
}

#define GPUKIT_ACCESS(BYTES) \
    void __tsan_read##BYTES(void* p) { saw(HERE, LOAD, p, BYTES); } \
    void __tsan_write##BYTES(void* p) { saw(HERE, STORE, p, BYTES); } \
    void __tsan_unaligned_read##BYTES(void* p) { saw(HERE, LOAD, p, BYTES); } \
    void __tsan_unaligned_write##BYTES(void* p) { saw(HERE, STORE, p, BYTES); }
GPUKIT_ACCESS(1)
GPUKIT_ACCESS(2)
GPUKIT_ACCESS(4)
GPUKIT_ACCESS(8)
GPUKIT_ACCESS(16)
void __tsan_read_range(void* p, size_t bytes) { saw(HERE, LOAD, p, bytes); }
void __tsan_write_range(void* p, size_t bytes) { saw(HERE, STORE, p, bytes); }
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int) {}

// The stand-ins of atomic functions look, then compare and exchange: the second is the operation.
#define GPUKIT_CHANGE(NAME, BITS, T) \
    T __tsan_atomic##BITS##_##NAME(volatile T* p, T v, int) { \
        saw(HERE, ATOMIC, const_cast<T*>(p), sizeof(T)); \
        return __atomic_##NAME(p, v, __ATOMIC_SEQ_CST); \
    }
#define GPUKIT_COMPARE(NAME, BITS, T) \
    int __tsan_atomic##BITS##_compare_exchange_##NAME(volatile T* p, T* wanted, T v, int, int) { \
        saw(HERE, ATOMIC, const_cast<T*>(p), sizeof(T)); \
        return __atomic_compare_exchange_n(p, wanted, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
    }
#define GPUKIT_ATOMICS(BITS, T) \
    T __tsan_atomic##BITS##_load(const volatile T* p, int) { \
        return __atomic_load_n(p, __ATOMIC_SEQ_CST); \
    } \
    void __tsan_atomic##BITS##_store(volatile T* p, T v, int) { \
        saw(HERE, ATOMIC, const_cast<T*>(p), sizeof(T)); \
        __atomic_store_n(p, v, __ATOMIC_SEQ_CST); \
    } \
    T __tsan_atomic##BITS##_exchange(volatile T* p, T v, int) { \
        saw(HERE, ATOMIC, const_cast<T*>(p), sizeof(T)); \
        return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST); \
    } \
    GPUKIT_CHANGE(fetch_add, BITS, T) \
    GPUKIT_CHANGE(fetch_sub, BITS, T) \
    GPUKIT_CHANGE(fetch_and, BITS, T) \
    GPUKIT_CHANGE(fetch_or, BITS, T) \
    GPUKIT_CHANGE(fetch_xor, BITS, T) \
    GPUKIT_COMPARE(strong, BITS, T) \
    GPUKIT_COMPARE(weak, BITS, T)
GPUKIT_ATOMICS(8, uint8_t)
GPUKIT_ATOMICS(16, uint16_t)
GPUKIT_ATOMICS(32, uint32_t)
GPUKIT_ATOMICS(64, uint64_t)

}  // extern "C"
