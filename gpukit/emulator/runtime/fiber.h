// A CUDA thread as a fiber: its own stack, and a switch of about 10 ns in our own assembly.
//
// Sanitizers are told of every switch. TSan's carry no ordering: only barriers order memory.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

extern "C" void gpukit_switch(void** save, void* to);

#if defined(__x86_64__)
asm(R"(
.text
.globl gpukit_switch
.hidden gpukit_switch
.type gpukit_switch, @function
gpukit_switch:
    endbr64
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size gpukit_switch, .-gpukit_switch
)");
#elif defined(__aarch64__)
asm(R"(
.text
.globl gpukit_switch
.hidden gpukit_switch
.type gpukit_switch, %function
gpukit_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.size gpukit_switch, .-gpukit_switch
)");
#else
#error "the emulator switches fibers on x86-64 and aarch64 only"
#endif

#ifdef GPUKIT_ASAN
extern "C" void __sanitizer_start_switch_fiber(void** save, const void* bottom, size_t size);
extern "C" void __sanitizer_finish_switch_fiber(void* save, const void** bottom, size_t* size);
extern "C" void __asan_unpoison_memory_region(const volatile void*, size_t);
#endif
#ifdef GPUKIT_TSAN
extern "C" void* __tsan_get_current_fiber();
extern "C" void* __tsan_create_fiber(unsigned flags);
extern "C" void __tsan_destroy_fiber(void* fiber);
extern "C" void __tsan_switch_to_fiber(void* fiber, unsigned flags);
extern "C" void __tsan_set_fiber_name(void* fiber, const char* name);
extern "C" void __tsan_acquire(void*);
extern "C" void __tsan_release(void*);
extern "C" void AnnotateIgnoreReadsBegin(const char*, int);
extern "C" void AnnotateIgnoreReadsEnd(const char*, int);
extern "C" void AnnotateIgnoreWritesBegin(const char*, int);
extern "C" void AnnotateIgnoreWritesEnd(const char*, int);
constexpr unsigned TSAN_NO_SYNC = 1;
#endif

namespace gpukit_emulator {

// While one of these lives, TSan takes allocations and fills for nobody's: memory is fresh.
struct Unwatched {
#ifdef GPUKIT_TSAN
    Unwatched() {
        AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
        AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
    }
    ~Unwatched() {
        AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
        AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
    }
#else
    Unwatched() {}
    ~Unwatched() {}
#endif
};

inline void happens_before(void* what) {
#ifdef GPUKIT_TSAN
    __tsan_release(what);
#else
    (void)what;
#endif
}

inline void happens_after(void* what) {
#ifdef GPUKIT_TSAN
    __tsan_acquire(what);
#else
    (void)what;
#endif
}

#if defined(GPUKIT_ASAN) || defined(GPUKIT_TSAN)
constexpr size_t STACK = 256 << 10;
#else
constexpr size_t STACK = 128 << 10;
#endif

// A stack with an unmapped page below it, and where its fiber was left.
struct Fiber {
    char* base = nullptr;
    void* stopped_at = nullptr;
    void* watched = nullptr;  // TSan's fiber, or ASan's fake stack

    explicit Fiber(void (*entry)()) {
        map();
        prepare(entry);
    }
    ~Fiber() { munmap(base, STACK); }

    // New memory at the old place: nothing that earlier fibers wrote counts any more.
    void renew() {
        munmap(base, STACK);
        map();
    }

    void prepare(void (*entry)()) {
        char* top = base + STACK - 64;
#if defined(__x86_64__)
        void** frame = reinterpret_cast<void**>(top) - 8;
        memset(frame, 0, 64);
        frame[6] = reinterpret_cast<void*>(entry);
#else
        void** frame = reinterpret_cast<void**>(top) - 20;
        memset(frame, 0, 160);
        frame[11] = reinterpret_cast<void*>(entry);
#endif
        stopped_at = frame;
    }

private:
    void map() {
        void* got = mmap(base, STACK, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (base ? MAP_FIXED : 0), -1, 0);
        if (got == MAP_FAILED) abort();
        base = static_cast<char*>(got);
        mprotect(base, static_cast<size_t>(sysconf(_SC_PAGESIZE)), PROT_NONE);
    }
};

}  // namespace gpukit_emulator
