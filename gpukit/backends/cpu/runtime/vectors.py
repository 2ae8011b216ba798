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


class _Vectors:
    """Loads and stores of vectors of arrays, numbered among the arguments, in a function's code."""

    def __init__(
        self, context: Any, builder: Any, signature: Any, arguments: Any, width: int = VECTOR
    ) -> None:
        self._context, self._builder, self._width = context, builder, width
        self._types, self._arguments = signature.args, arguments

    def kind(self, array: int) -> Any:
        """The type of a vector of this array."""
        return ir.VectorType(self._context.get_data_type(self._types[array].dtype), self._width)

    def full(self, array: int, value: float) -> Any:
        """A vector of this array's type that holds `value` in every lane."""
        return ir.Constant(self.kind(array), [value] * self._width)

    def load(self, array: int, place: Any) -> Any:
        """The vector that begins at array[place]."""
        pointer, align = self._pointer(array, place)
        return self._builder.load(pointer, align=align)

    def store(self, value: Any, array: int, place: Any) -> None:
        """array[place …] = value."""
        pointer, align = self._pointer(array, place)
        self._builder.store(value, pointer, align=align)

    def _pointer(self, array: int, place: Any) -> tuple[Any, int]:
        kind, make = self.kind(array), self._context.make_array(self._types[array])
        data = make(self._context, self._builder, self._arguments[array]).data
        pointer = self._builder.gep(data, [place])
        align = self._context.get_abi_sizeof(kind.element)
        return self._builder.bitcast(pointer, kind.as_pointer()), align


def _vector_operation(width: int, operation: str) -> Any:
    """Nopython function on `width` values of arrays from an index on.

    clear     (target, out)                                  target  = 0
    copy      (target, out, source, first)                   target  = source
    add       (target, out, source, first)                   target += source
    multiply  (target, out, source, first, factors, place)   target += source · factors
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        vectors = _Vectors(context, builder, signature, arguments, width)
        clear = operation == "clear"
        values = vectors.full(0, 0.0) if clear else vectors.load(2, arguments[3])
        if operation == "multiply":
            factors = vectors.load(4, arguments[5])
            values = builder.fmul(values, factors, flags=("contract",))
        if operation in ("add", "multiply"):
            old = vectors.load(0, arguments[1])
            values = builder.fadd(old, values, flags=("contract",))
        vectors.store(values, 0, arguments[1])
        return context.get_dummy_value()

    index = types.intp

    def three(typing_context, target, out, source, first, factors, place):  # type: ignore[no-untyped-def]
        return types.none(target, index, source, index, factors, index), generate

    def two(typing_context, target, out, source, first):  # type: ignore[no-untyped-def]
        return types.none(target, index, source, index), generate

    def one(typing_context, target, out):  # type: ignore[no-untyped-def]
        return types.none(target, index), generate

    return intrinsic({"clear": one, "multiply": three}.get(operation, two))


def _window_vector(rows: int, columns: int) -> Any:
    """Nopython: y and index at `out` from the window whose first cell is x[first], 16 channels.

    Cells are `pixel_step` apart, rows `row_step`.
    """

    def choose(typing_context, y, out, index, x, first, row_step, pixel_step):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            vectors = _Vectors(context, builder, signature, arguments)

            def larger(left: Any, right: Any) -> Any:
                # Unordered: true for a NaN, too, unless there was one before.
                above = builder.fcmp_unordered(">", right[0], left[0])
                better = builder.and_(above, builder.fcmp_ordered("==", left[0], left[0]))
                return tuple(builder.select(better, r, v) for r, v in zip(right, left))

            _, out, _, _, first, row_step, pixel_step = arguments
            found = []
            for r in range(rows):
                place = first
                for s in range(columns):
                    found.append((vectors.load(3, place), vectors.full(2, columns * r + s)))
                    place = builder.add(place, pixel_step)
                first = builder.add(first, row_step)
            # In pairs, neighbours only, so that the first of equals wins as in a row.
            while len(found) > 1:
                pairs = [larger(*found[i : i + 2]) for i in range(0, len(found) - 1, 2)]
                found = pairs + found[len(found) // 2 * 2 :]
            vectors.store(found[0][0], 0, out)
            vectors.store(found[0][1], 2, out)
            return context.get_dummy_value()

        i = types.intp
        return types.none(y, i, index, x, i, i, i), generate

    return intrinsic(choose)


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
            vectors = _Vectors(context, builder, signature, arguments)
            _, place, _, _, out, cell = arguments
            wanted = splat(builder, builder.trunc(cell, ir.IntType(8)), vectors.kind(3))
            won = builder.icmp_unsigned("==", vectors.load(3, out), wanted)
            chosen = builder.select(won, vectors.load(2, out), vectors.full(2, 0.0))
            if add:
                chosen = builder.fadd(vectors.load(0, place), chosen)
            vectors.store(chosen, 0, place)
            return context.get_dummy_value()

        i = types.intp
        return types.none(gx, i, gy, index, i, i), generate

    return intrinsic(choose)


window_2x2_vector: Any = _window_vector(2, 2)
window_3x3_vector: Any = _window_vector(3, 3)
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
