// What the warps of a launch asked memory for: builds for "trace" only.
//
// g++'s -fsanitize=thread calls a function before every load and store, and
// -fsanitize-coverage=trace-pc one at the start of every basic block. Here these functions are ours:
// they write down what each CUDA thread did, and the threads of a warp, which ran one after another,
// are laid side by side again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

namespace gpukit_emulator {

enum Kind : uint8_t { STEP, LOAD, STORE, ATOMIC, COPY_ASYNC };

// One thing that a thread did: came to a basic block (STEP), or asked for `bytes` of an array.
struct Event {
    int64_t place;     // of the code, from the kernel's entry
    uint64_t offset;   // in the array
    uint32_t context;  // the calls that led here
    int16_t array;     // an argument from 0 on, a shared array from -1 downwards
    uint8_t kind, bytes;
};

struct Context {
    uint32_t parent;
    int64_t call;
    int depth;
};

struct Totals {
    uint64_t requests, lanes, sectors, least, wavefronts, parts, worst;
};

constexpr int MOST_FRAMES = 12;

// What Python reads: one place of the code, and all its requests to one array.
struct Traced {
    uint64_t frames[MOST_FRAMES];  // in the kernel's library, innermost first; 0 ends the list
    char array[48];                // the name of a shared array
    int32_t argument, kind, bytes, cut;
    Totals totals;
};

struct Extent {
    uint64_t begin, end;
};

class Tracer {
public:
    bool paused = false;

    void open(const void* entry, unsigned threads);
    void arrays(const Extent* given, int count) { arrays_.assign(given, given + count); }
    void start(unsigned thread) { contexts_of_[thread] = 0; }
    void enter(unsigned thread, const void* call);
    void leave(unsigned thread);
    void step(unsigned thread, const void* code);
    void access(unsigned thread, const void* code, uint8_t kind, const void* address, size_t bytes);
    void copy(unsigned thread, const void* code, const void* to, const void* from, unsigned bytes,
              unsigned given);
    void settle();
    std::vector<Traced> take();

private:
    using Key = std::tuple<uint32_t, int64_t, uint8_t, uint8_t, int16_t>;

    void push(unsigned thread, const Event& event);
    void settle(unsigned warp);
    void request(const Event* const* lanes);
    bool comes_first(const Event& a, const Event& b) const;

    const char* entry_ = nullptr;
    size_t most_ = 0;  // events of a thread between barriers
    bool cut_ = false;
    std::vector<Extent> arrays_;
    std::vector<std::string> shared_;
    std::vector<std::vector<Event>> events_;
    std::vector<uint32_t> contexts_of_;
    std::vector<Context> contexts_{{0, 0, 0}};
    std::map<std::pair<uint32_t, int64_t>, uint32_t> known_;
    std::map<Key, Totals> totals_;
};

extern Tracer tracer;

}  // namespace gpukit_emulator
