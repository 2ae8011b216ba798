"""Short runs of values moved as vectors.

Numba's arrays may overlap as far as LLVM knows, so each short loop over two arrays becomes a check,
a vector loop and a scalar one; for runs of ten values the checks are the cost. Here a vector is
loaded and stored outright, whatever its alignment.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from gpukit.backends.cpu.runtime.jit import at, jit

VECTOR = 16


def _vector_place(context: Any, builder: Any, signature: Any, arguments: Any, i: int) -> Any:
    """Pointer to a vector at arguments (array i, index i + 1), and the alignment to assume."""
    item = context.get_data_type(signature.args[i].dtype)
    data = context.make_array(signature.args[i])(context, builder, arguments[i]).data
    pointer = builder.gep(data, [arguments[i + 1]])
    return pointer, item, context.get_abi_sizeof(item)


def _vector_operation(width: int, operation: str) -> Any:
    """Nopython function on `width` values of arrays from an index on.

    clear     (target, out)                                  target  = 0
    copy      (target, out, source, first)                   target  = source
    add       (target, out, source, first)                   target += source
    multiply  (target, out, source, first, factors, place)   target += source · factors
    """

    def load(context: Any, builder: Any, signature: Any, arguments: Any, i: int) -> Any:
        pointer, item, align = _vector_place(context, builder, signature, arguments, i)
        vector = ir.VectorType(item, width)
        return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=align)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        if operation == "clear":
            item = context.get_data_type(signature.args[0].dtype)
            values = ir.Constant(ir.VectorType(item, width), [0.0] * width)
        else:
            values = load(context, builder, signature, arguments, 2)
        if operation == "multiply":
            factors = load(context, builder, signature, arguments, 4)
            values = builder.fmul(values, factors, flags=("contract",))
        if operation in ("add", "multiply"):
            old = load(context, builder, signature, arguments, 0)
            values = builder.fadd(old, values, flags=("contract",))
        pointer, item, align = _vector_place(context, builder, signature, arguments, 0)
        vector = ir.VectorType(item, width)
        builder.store(values, builder.bitcast(pointer, vector.as_pointer()), align=align)
        return context.get_dummy_value()

    index = types.intp

    def three(typing_context, target, out, source, first, factors, place):  # type: ignore[no-untyped-def]
        return types.none(target, index, source, index, factors, index), generate

    def two(typing_context, target, out, source, first):  # type: ignore[no-untyped-def]
        return types.none(target, index, source, index), generate

    def one(typing_context, target, out):  # type: ignore[no-untyped-def]
        return types.none(target, index), generate

    return intrinsic({"clear": one, "multiply": three}.get(operation, two))


def _pool_vector(typing_context, y, out, index, x, above, below, channels):  # type: ignore[no-untyped-def]
    """Nopython: y and index at `out` from the 2×2 windows at x[above], x[below], 16 channels."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        item = context.get_data_type(signature.args[0].dtype)
        align = context.get_abi_sizeof(item)
        vector, cells = ir.VectorType(item, VECTOR), ir.VectorType(ir.IntType(8), VECTOR)

        def pointer(array: int, place: Any, kind: Any) -> Any:
            data = context.make_array(signature.args[array])(context, builder, arguments[array])
            return builder.bitcast(builder.gep(data.data, [place]), kind.as_pointer())

        _, out, _, _, above, below, channels = arguments
        places = (above, builder.add(above, channels), below, builder.add(below, channels))
        values = [builder.load(pointer(3, place, vector), align=align) for place in places]
        best, which = values[0], ir.Constant(cells, [0] * VECTOR)
        for cell, value in enumerate(values[1:], 1):
            # Unordered: true for a NaN, too, unless there was one before.
            larger = builder.fcmp_unordered(">", value, best)
            better = builder.and_(larger, builder.fcmp_ordered("==", best, best))
            best = builder.select(better, value, best)
            which = builder.select(better, ir.Constant(cells, [cell] * VECTOR), which)
        builder.store(best, pointer(0, out, vector), align=align)
        builder.store(which, pointer(2, out, cells), align=1)
        return context.get_dummy_value()

    i = types.intp
    return types.none(y, i, index, x, i, i, i), generate


def _window_3x3_vector(typing_context, y, out, index, x, first, row_step, pixel_step):  # type: ignore[no-untyped-def]
    """Nopython: y and index at `out` from the 3×3 window whose first cell is x[first], 16 channels.

    Cells are `pixel_step` apart, rows `row_step`.
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        item = context.get_data_type(signature.args[0].dtype)
        align = context.get_abi_sizeof(item)
        vector, cells = ir.VectorType(item, VECTOR), ir.VectorType(ir.IntType(8), VECTOR)

        def pointer(array: int, place: Any, kind: Any) -> Any:
            data = context.make_array(signature.args[array])(context, builder, arguments[array])
            return builder.bitcast(builder.gep(data.data, [place]), kind.as_pointer())

        def larger(left: Any, right: Any) -> Any:
            # Unordered: true for a NaN, too, unless there was one before.
            above = builder.fcmp_unordered(">", right[0], left[0])
            better = builder.and_(above, builder.fcmp_ordered("==", left[0], left[0]))
            return tuple(builder.select(better, r, v) for r, v in zip(right, left))

        _, out, _, _, first, row_step, pixel_step = arguments
        found = []
        for r in range(3):
            place = first
            for s in range(3):
                value = builder.load(pointer(3, place, vector), align=align)
                found.append((value, ir.Constant(cells, [3 * r + s] * VECTOR)))
                place = builder.add(place, pixel_step)
            first = builder.add(first, row_step)
        # In pairs, neighbours only, so that the first of equals wins as in a row.
        while len(found) > 1:
            pairs = [larger(*found[i : i + 2]) for i in range(0, len(found) - 1, 2)]
            found = pairs + found[len(found) // 2 * 2 :]
        builder.store(found[0][0], pointer(0, out, vector), align=align)
        builder.store(found[0][1], pointer(2, out, cells), align=1)
        return context.get_dummy_value()

    i = types.intp
    return types.none(y, i, index, x, i, i, i), generate


def splat(builder: Any, value: Any, kind: Any) -> Any:
    """A vector of `kind` that holds `value` in every lane."""
    one = builder.insert_element(
        ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0)
    )
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), zeros)


def _choosing(add: bool) -> Any:
    """Nopython: gx[place] = (or, to `add`, +=) gy[out] where index[out] is `cell`, else 0."""

    def choose(typing_context, gx, place, gy, index, out, cell):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            item = context.get_data_type(signature.args[0].dtype)
            align = context.get_abi_sizeof(item)
            vector, cells = ir.VectorType(item, VECTOR), ir.VectorType(ir.IntType(8), VECTOR)

            def pointer(array: int, place: Any, kind: Any) -> Any:
                data = context.make_array(signature.args[array])(context, builder, arguments[array])
                return builder.bitcast(builder.gep(data.data, [place]), kind.as_pointer())

            _, place, _, _, out, cell = arguments
            gradient = builder.load(pointer(2, out, vector), align=align)
            which = builder.load(pointer(3, out, cells), align=1)
            wanted = splat(builder, builder.trunc(cell, ir.IntType(8)), cells)
            chosen = builder.select(
                builder.icmp_unsigned("==", which, wanted),
                gradient,
                ir.Constant(vector, [0.0] * VECTOR),
            )
            target = pointer(0, place, vector)
            if add:
                chosen = builder.fadd(builder.load(target, align=align), chosen)
            builder.store(chosen, target, align=align)
            return context.get_dummy_value()

        i = types.intp
        return types.none(gx, i, gy, index, i, i), generate

    return intrinsic(choose)


pool_vector: Any = intrinsic(_pool_vector)
window_3x3_vector: Any = intrinsic(_window_3x3_vector)
choose_vector: Any = _choosing(add=False)
collect_vector: Any = _choosing(add=True)
_clear_16 = _vector_operation(VECTOR, "clear")
_copy_16 = _vector_operation(VECTOR, "copy")
_add_16 = _vector_operation(VECTOR, "add")
_add_4 = _vector_operation(4, "add")
_multiply_16 = _vector_operation(VECTOR, "multiply")


@jit(inline=True)
def copy_run(target, out, source, first, length):  # type: ignore[no-untyped-def]
    """target[out : out + length] = source[first : first + length]."""
    whole = length // VECTOR * VECTOR
    for start in range(0, whole, VECTOR):
        _copy_16(target, out + start, source, first + start)
    for i in range(whole, length):
        target[at(out + i)] = source[at(first + i)]


@jit(inline=True)
def copy_beyond(target, out, source, first, length):  # type: ignore[no-untyped-def]
    """As `copy_run`, in whole vectors: reads and writes up to 15 values beyond the end."""
    for start in range(0, length, VECTOR):
        _copy_16(target, out + start, source, first + start)


@jit(inline=True)
def clear_beyond(target, out, length):  # type: ignore[no-untyped-def]
    """As `clear_run`, in whole vectors: writes up to 15 values beyond the end."""
    for start in range(0, length, VECTOR):
        _clear_16(target, out + start)


@jit(inline=True)
def add_run(target, out, source, first, length):  # type: ignore[no-untyped-def]
    """target[out : out + length] += source[first : first + length]."""
    whole = length // VECTOR * VECTOR
    for start in range(0, whole, VECTOR):
        _add_16(target, out + start, source, first + start)
    fours = length // 4 * 4
    for start in range(whole, fours, 4):
        _add_4(target, out + start, source, first + start)
    for i in range(fours, length):
        target[at(out + i)] += source[at(first + i)]


@jit(inline=True)
def clear_run(target, out, length):  # type: ignore[no-untyped-def]
    """target[out : out + length] = 0."""
    for i in range(length):
        target[at(out + i)] = 0


@jit(inline=True)
def multiply_add_run(target, out, source, first, factors, place, length):  # type: ignore[no-untyped-def]
    """target[out …] += source[first …] · factors[place …], `length` values each."""
    whole = length // VECTOR * VECTOR
    for start in range(0, whole, VECTOR):
        _multiply_16(target, out + start, source, first + start, factors, place + start)
    for i in range(whole, length):
        target[at(out + i)] += source[at(first + i)] * factors[at(place + i)]
