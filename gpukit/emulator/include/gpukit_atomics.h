// Atomic functions, as real ones: blocks run on several cores. They order no other memory.
#pragma once

namespace gpukit_emulator {

template <class T> struct Same {
    using type = T;
};
template <class T> using Given = typename Same<T>::type;

// *p = next(*p) as one step; the value before.
template <class T, class F> inline T change(T* p, F next) {
    using Bits = std::conditional_t<sizeof(T) == 8, unsigned long long,
                                    std::conditional_t<sizeof(T) == 4, unsigned, unsigned short>>;
    static_assert(sizeof(T) == sizeof(Bits), "atomics take 2, 4 or 8 bytes");
    Bits* bits = reinterpret_cast<Bits*>(p);
    Bits before = __atomic_load_n(bits, __ATOMIC_RELAXED);
    for (;;) {
        T value;
        memcpy(&value, &before, sizeof value);
        const T after = next(value);
        Bits wanted;
        memcpy(&wanted, &after, sizeof wanted);
        if (__atomic_compare_exchange_n(bits, &before, wanted, false, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED))
            return value;
    }
}

}  // namespace gpukit_emulator

#define GPUKIT_ATOMIC(NAME, EXPRESSION) \
    template <class T> static inline T NAME(T* p, gpukit_emulator::Given<T> v) { \
        return gpukit_emulator::change(p, [v](T old) -> T { return EXPRESSION; }); \
    }
GPUKIT_ATOMIC(atomicAdd, static_cast<T>(old + v))
GPUKIT_ATOMIC(atomicSub, static_cast<T>(old - v))
GPUKIT_ATOMIC(atomicMin, v < old ? v : old)
GPUKIT_ATOMIC(atomicMax, old < v ? v : old)
GPUKIT_ATOMIC(atomicExch, (static_cast<void>(old), v))
GPUKIT_ATOMIC(atomicAnd, static_cast<T>(old & v))
GPUKIT_ATOMIC(atomicOr, static_cast<T>(old | v))
GPUKIT_ATOMIC(atomicXor, static_cast<T>(old ^ v))
GPUKIT_ATOMIC(atomicInc, old >= v ? T(0) : T(old + 1))
GPUKIT_ATOMIC(atomicDec, (old == 0 || old > v) ? v : T(old - 1))
#undef GPUKIT_ATOMIC

template <class T>
static inline T atomicCAS(T* p, gpukit_emulator::Given<T> compare, gpukit_emulator::Given<T> v) {
    return gpukit_emulator::change(p, [compare, v](T old) -> T { return old == compare ? v : old; });
}
