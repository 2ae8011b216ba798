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

from gpukit.backends.cpu.jit import at, jit

VECTOR = 16


def _vector_place(context: Any, builder: Any, signature: Any, arguments: Any, i: int) -> Any:
    """Pointer to a vector at arguments (array i, index i + 1), and the alignment to assume."""
    item = context.get_data_type(signature.args[i].dtype)
    data = context.make_array(signature.args[i])(context, builder, arguments[i]).data
    pointer = builder.gep(data, [arguments[i + 1]])
    return pointer, item, context.get_abi_sizeof(item)


def _vector_operation(width: int, operation: str) -> Any:
    """Nopython function on `width` values of arrays from an index on.

    copy      (target, out, source, first)                   target  = source
    add       (target, out, source, first)                   target += source
    multiply  (target, out, source, first, factors, place)   target += source · factors
    """

    def load(context: Any, builder: Any, signature: Any, arguments: Any, i: int) -> Any:
        pointer, item, align = _vector_place(context, builder, signature, arguments, i)
        vector = ir.VectorType(item, width)
        return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=align)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        values = load(context, builder, signature, arguments, 2)
        if operation == "multiply":
            factors = load(context, builder, signature, arguments, 4)
            values = builder.fmul(values, factors, flags=("contract",))
        if operation != "copy":
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

    return intrinsic(three if operation == "multiply" else two)


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
