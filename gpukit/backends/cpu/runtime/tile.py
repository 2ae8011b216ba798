"""The innermost loop of tiled convolution: a tile of sums held in registers.

`tile` adds up `pixels` × (16·vectors) products over rows × cells × length steps,

    sums[i, j] += x[first + i·step + r·row_step + s·cell_step + k·x_apart] · w[…, j]

one broadcast from x for each i, `vectors` loads from w, and pixels·vectors multiply-adds a step.
With 14 × 2 or 9 × 3 all sums stay in the 32 registers of AVX-512, and there are half as many loads
as multiply-adds: 255 GFLOP/s on one Zen 5 core, from x as it lies, without a panel.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from gpukit.backends.cpu.runtime.vectors import VECTOR, splat

# Tallest tiles for 1, 2 and 3 vectors: sums, one broadcast and w's vectors in 32 registers.
TALLEST = {1: 28, 2: 14, 3: 9}

_WORD = ir.IntType(64)


def _tile(  # type: ignore[no-untyped-def]
    typing_context, y, out, out_step, add, x, first, step, x_apart, w, place, w_apart,
    rows, row_step, cells, cell_step, length, pixels, vectors,
):  # fmt: skip
    """Nopython: y[out + i·out_step + j] = sums[i, j], or += where `add`.

    w's vectors begin at `place` and move on by `w_apart` at each step. `pixels` and `vectors` are
    constants.
    """
    if not all(isinstance(n, types.IntegerLiteral) for n in (pixels, vectors)):
        return None
    height, width = pixels.literal_value, vectors.literal_value

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        (
            _, out, out_step, add, _, first, step, x_apart, _, place, w_apart,
            rows, row_step, cells, cell_step, length, _, _,
        ) = arguments  # fmt: skip
        item = context.get_data_type(signature.args[0].dtype)
        align = context.get_abi_sizeof(item)
        vector = ir.VectorType(item, VECTOR)

        def data(n: int) -> Any:
            return context.make_array(signature.args[n])(context, builder, arguments[n]).data

        def at_vector(pointer: Any, number: int) -> Any:
            moved = builder.gep(pointer, [_WORD(number * VECTOR)])
            return builder.bitcast(moved, vector.as_pointer())

        zero = ir.Constant(vector, [0.0] * VECTOR)
        sums = [
            [cgutils.alloca_once_value(builder, zero) for _ in range(width)] for _ in range(height)
        ]
        at_w = cgutils.alloca_once_value(builder, builder.gep(data(8), [place]))
        offsets = [builder.mul(step, _WORD(i)) for i in range(height)]
        with cgutils.for_range(builder, rows) as row:
            row_start = builder.add(first, builder.mul(row.index, row_step))
            with cgutils.for_range(builder, cells) as cell:
                start = builder.add(row_start, builder.mul(cell.index, cell_step))
                base = builder.gep(data(4), [start])
                starts = [builder.gep(base, [offset]) for offset in offsets]
                with cgutils.for_range(builder, length) as k:
                    weights = builder.load(at_w)
                    loaded = [
                        builder.load(at_vector(weights, j), align=align) for j in range(width)
                    ]
                    moved = builder.mul(k.index, x_apart)
                    for i in range(height):
                        one = builder.load(builder.gep(starts[i], [moved]), align=align)
                        value = splat(builder, one, vector)
                        for j in range(width):
                            product = builder.fmul(value, loaded[j], flags=("contract",))
                            total = builder.load(sums[i][j])
                            builder.store(
                                builder.fadd(product, total, flags=("contract",)), sums[i][j]
                            )
                    builder.store(builder.gep(weights, [w_apart]), at_w)
        for i in range(height):
            row_out = builder.add(out, builder.mul(out_step, _WORD(i)))
            target = builder.gep(data(0), [row_out])
            for j in range(width):
                total, there = builder.load(sums[i][j]), at_vector(target, j)
                with builder.if_else(add) as (then, otherwise):
                    with then:
                        before = builder.load(there, align=align)
                        builder.store(builder.fadd(before, total), there, align=align)
                    with otherwise:
                        builder.store(total, there, align=align)
        return context.get_dummy_value()

    i = types.intp
    arguments = (y, i, i, types.boolean, x, i, i, i, w, i, i, i, i, i, i, i, pixels, vectors)
    return types.none(*arguments), generate


tile: Any = intrinsic(prefer_literal=True)(_tile)
