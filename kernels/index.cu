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
// Open:    no card has confirmed the rates.

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
