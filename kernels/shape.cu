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

// Rows picked by number, and the gradient of picking.
//
// What:    x is (outer, rows, inner); y (outer, picks, inner) takes row table[b] for pick b. Any key of
//          integer arrays is that, once the launcher has made one number of each position's indices;
//          slices are views, which shape.cu copies.
// Bytes:   every element that is picked is read and written once, 8 bytes in float32; the table, 4 or 8
//          bytes a pick, comes from the cache for all but the first lane of a row.
// Shape:   one thread an element of y, inner fastest: a warp reads whole sectors from rows of 8 float32
//          on. Shorter rows cost a sector each; nothing can be done about it, picks lie anywhere.
//          The gradient gathers, too: the launcher sorts the picks by row, and one thread an element
//          of a row that was picked adds what its picks bring, in the order of the picks:
//
//            table   2 0 2 5 0        rows that occur   0    2    5
//            picks   0 1 2 3 4        their picks       1 4  0 2  3      (`order`, cut by `starts`)
//
//          Scattering gy would need atomic additions, in an order that changes from run to run. Here
//          each element has one thread and the order of the definition, so the same bits. A row that
//          is picked very often is one thread's long sum; labels and embeddings spread theirs.
// Index:   I is int where every offset fits, else long long.

// instances: gather<unsigned char, int>, gather<unsigned char, long long>
// instances: gather<unsigned short, int>, gather<unsigned short, long long>
// instances: gather<unsigned int, int>, gather<unsigned int, long long>
// instances: gather<unsigned long long, int>, gather<unsigned long long, long long>
// instances: add_picked<T, int>, add_picked<T, long long>

// n = outer·picks·inner.
template <typename M, typename I>
__global__ void __launch_bounds__(256, 4)
gather(const M* __restrict__ x, const I* __restrict__ table, M* __restrict__ y, I n, I rows, I picks,
       I inner) {
    const I i = static_cast<I>(blockIdx.x) * static_cast<I>(blockDim.x) + static_cast<I>(threadIdx.x);
    if (i >= n) return;
    const I place = i / inner, column = i % inner;
    const I block = place / picks, pick = place % picks;
    y[i] = x[(block * rows + table[pick]) * inner + column];
}

// gx (outer, rows, inner) gets, in row occurring[u], the sum of gy's picks order[starts[u]] up to
// order[starts[u + 1] - 1]; other rows stay. n = outer·(rows that occur)·inner.
template <typename T, typename I>
__global__ void __launch_bounds__(256, 4)
add_picked(const T* __restrict__ gy, const I* __restrict__ occurring, const I* __restrict__ starts,
           const I* __restrict__ order, T* __restrict__ gx, I n, I rows, I count, I picks, I inner) {
    const I i = static_cast<I>(blockIdx.x) * static_cast<I>(blockDim.x) + static_cast<I>(threadIdx.x);
    if (i >= n) return;
    const I place = i / inner, column = i % inner;
    const I block = place / count, which = place % count;
    const T* from = gy + block * picks * inner + column;
    T sum = 0;
    for (I s = starts[which]; s < starts[which + 1]; ++s) sum += from[order[s] * inner];
    gx[(block * rows + occurring[which]) * inner + column] = sum;
}
