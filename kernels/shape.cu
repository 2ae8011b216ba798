// Moving elements without computing: copies between any strides, transposes, padding.
//
// What:    transpose, concat, split, slices and broadcasts are all one thing: an element of y is an
//          element of x somewhere else. The launcher describes both sides by sizes and strides and
//          merges axes that run on in both, so that an NHWC image cut along N is one axis.
// Types:   only bits move, so M is an unsigned integer of the element's size: float32, int32 and any
//          other 4 bytes share an instance. Where runs, strides and addresses allow, the launcher calls
//          two float32 one 8-byte element.
// Bytes:   each element is read and written once, 8 n in float32; no arithmetic but the addresses.
//          Memory is the floor: a batch of 128 × 56 × 56 × 64 takes 43 µs at 4.8 TB/s.
// Shape:   three kernels.
//
//            move   one thread an element of y; it finds its place by dividing its number by the sizes,
//                   AXES - 1 divisions. Writes are neighbours; reads are where the last axis is the
//                   same one in x and y. AXES is 3 where that is enough, and it nearly always is.
//            turn   where x and y have different last axes, reads or writes of `move` would touch a
//                   sector of 32 bytes for each element. Instead, tiles of 32 × 32:
//
//                     x: rows, a is last          tile in shared memory        y: rows, b is last
//                       b0  a0 a1 … a31             a0 b0 | a1 b0 | …            a0  b0 b1 … b31
//                       b1  a0 a1 … a31   warp →    a0 b1 | a1 b1 | …  → warp    a1  b0 b1 … b31
//
//                   A warp reads 32 neighbours along a and writes 32 neighbours along b. Rows of the
//                   tile are 33 long, so that a warp that reads a column meets 32 banks. For axes
//                   shorter than 16 most of a tile would idle: then `move`, whose reads of few
//                   neighbouring columns find their sectors in the first-level cache.
//            pad    one thread an element of y, which is an element of x or `value`: each is written
//                   once, where filling first would write the inside twice.
//
// Index:   I is int where every offset fits, else long long, chosen at each launch: 64-bit divisions
//          take several times as long as 32-bit ones.
// Open:    no card has confirmed that `move` is bound by memory and not by its divisions.

// instances: move<unsigned char, int, 3>, move<unsigned char, int, 6>
// instances: move<unsigned char, long long, 3>, move<unsigned char, long long, 6>
// instances: move<unsigned short, int, 3>, move<unsigned short, int, 6>
// instances: move<unsigned short, long long, 3>, move<unsigned short, long long, 6>
// instances: move<unsigned int, int, 3>, move<unsigned int, int, 6>
// instances: move<unsigned int, long long, 3>, move<unsigned int, long long, 6>
// instances: move<unsigned long long, int, 3>, move<unsigned long long, int, 6>
// instances: move<unsigned long long, long long, 3>, move<unsigned long long, long long, 6>
// instances: turn<unsigned char, int>, turn<unsigned char, long long>
// instances: turn<unsigned short, int>, turn<unsigned short, long long>
// instances: turn<unsigned int, int>, turn<unsigned int, long long>
// instances: turn<unsigned long long, int>, turn<unsigned long long, long long>
// instances: pad<unsigned char, int>, pad<unsigned char, long long>
// instances: pad<unsigned short, int>, pad<unsigned short, long long>
// instances: pad<unsigned int, int>, pad<unsigned int, long long>
// instances: pad<unsigned long long, int>, pad<unsigned long long, long long>

// y[y_from + Σ at·ys] = x[x_from + Σ at·xs] for n coordinates, the last AXES of (n0 … n5). Strides are
// in elements; 0 repeats, negative ones go backwards.
template <typename M, typename I, int AXES>
__global__ void __launch_bounds__(256, 4)
move(const M* __restrict__ x, M* __restrict__ y, I n, I x_from, I y_from,
     I n1, I n2, I n3, I n4, I n5, I x0, I x1, I x2, I x3, I x4, I x5,
     I y0, I y1, I y2, I y3, I y4, I y5) {
    const I i = static_cast<I>(blockIdx.x) * static_cast<I>(blockDim.x) + static_cast<I>(threadIdx.x);
    if (i >= n) return;
    const I sizes[6] = {1, n1, n2, n3, n4, n5};
    const I xs[6] = {x0, x1, x2, x3, x4, x5}, ys[6] = {y0, y1, y2, y3, y4, y5};
    I rest = i, from = x_from, to = y_from;
#pragma unroll
    for (int a = 5; a > 6 - AXES; --a) {
        const I at = rest % sizes[a];
        rest /= sizes[a];
        from += at * xs[a];
        to += at * ys[a];
    }
    y[to + rest * ys[6 - AXES]] = x[from + rest * xs[6 - AXES]];
}

// The same for two axes that are each the last of one side: a, `wide` long, has stride 1 in x and y_a
// in y; b, `tall` long, has x_b in x and 1 in y. A block of 32 × 8 threads takes a tile of them at one
// place (o0 … o3) of the other axes:
//
//     blockIdx.x = (((o0·n1 + o1)·n2 + o2)·n3 + o3)·tiles + tile
template <typename M, typename I>
__global__ void __launch_bounds__(256, 4)
turn(const M* __restrict__ x, M* __restrict__ y, I x_from, I y_from, I wide, I tall, I y_a, I x_b,
     I n1, I n2, I n3, I x0, I x1, I x2, I x3, I y0, I y1, I y2, I y3) {
    __shared__ M tile[32][33];
    const I across = (wide + 31) / 32, down = (tall + 31) / 32;
    I rest = blockIdx.x;
    const I a0 = rest % across * 32;
    rest /= across;
    const I b0 = rest % down * 32;
    rest /= down;
    const I o3 = rest % n3;
    rest /= n3;
    const I o2 = rest % n2;
    rest /= n2;
    const I o1 = rest % n1, o0 = rest / n1;
    const I from = x_from + o0 * x0 + o1 * x1 + o2 * x2 + o3 * x3;
    const I to = y_from + o0 * y0 + o1 * y1 + o2 * y2 + o3 * y3;
    const int lane = threadIdx.x;
#pragma unroll
    for (int row = threadIdx.y; row < 32; row += 8) {
        const I a = a0 + lane, b = b0 + row;
        if (a < wide && b < tall) tile[row][lane] = x[from + b * x_b + a];
    }
    __syncthreads();
#pragma unroll
    for (int row = threadIdx.y; row < 32; row += 8) {
        const I a = a0 + row, b = b0 + lane;
        if (a < wide && b < tall) y[to + a * y_a + b] = tile[lane][row];
    }
}

// y (…,n1,n2,n3) with x (…,m1,m2,m3) in it, whose first element is at (b0,b1,b2,b3); `value` around it.
template <typename M, typename I>
__global__ void __launch_bounds__(256, 4)
pad(const M* __restrict__ x, M* __restrict__ y, M value, I n, I n1, I n2, I n3,
    I m0, I m1, I m2, I m3, I b0, I b1, I b2, I b3) {
    const I i = static_cast<I>(blockIdx.x) * static_cast<I>(blockDim.x) + static_cast<I>(threadIdx.x);
    if (i >= n) return;
    I rest = i;
    const I i3 = rest % n3 - b3;
    rest /= n3;
    const I i2 = rest % n2 - b2;
    rest /= n2;
    const I i1 = rest % n1 - b1, i0 = rest / n1 - b0;
    const bool inside = i0 >= 0 && i0 < m0 && i1 >= 0 && i1 < m1 && i2 >= 0 && i2 < m2 && i3 >= 0 &&
                        i3 < m3;
    y[i] = inside ? x[((i0 * m1 + i1) * m2 + i2) * m3 + i3] : value;
}
