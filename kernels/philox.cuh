// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): random
// numbers by counting. Ten rounds of two multiplications mix a 128-bit counter under a 64-bit key:
//
//   counter (block mod 2³², block div 2³², layer, step)   key (seed mod 2³², seed div 2³²)
//
// Element i of an array is word i mod 4 of block i div 4. No state, so any thread makes any element,
// and every backend makes the same bits. Some 100 integer operations for four numbers.

#pragma once

struct Words {
    unsigned at[4];
};

__device__ __forceinline__ Words philox4x32(unsigned long long block, unsigned layer, unsigned step,
                                            unsigned key, unsigned key_high) {
    unsigned a = static_cast<unsigned>(block), b = static_cast<unsigned>(block >> 32);
    unsigned c = layer, d = step;
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const unsigned long long left = 0xD2511F53ull * a, right = 0xCD9E8D57ull * c;
        a = static_cast<unsigned>(right >> 32) ^ b ^ key;
        b = static_cast<unsigned>(right);
        c = static_cast<unsigned>(left >> 32) ^ d ^ key_high;
        d = static_cast<unsigned>(left);
        key += 0x9E3779B9u;  // the golden ratio's first 32 bits; unsigned sums wrap by definition
        key_high += 0xBB67AE85u;  // those of √3 - 1
    }
    return {{a, b, c, d}};
}
