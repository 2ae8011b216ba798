"""Short runs of values moved as vectors.

Numba's arrays may overlap as far as LLVM knows, so for each short loop over two arrays it compiles a
check, a vector loop and a scalar one; for runs of ten values the checks are the cost. Here a vector
is loaded and stored outright, whatever its alignment.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from gpukit.backends.cpu.jit import at, jit

VECTOR = 16


def _vector_operation(width: int, add: bool) -> Any:
    """Nopython function (target, out, source, first): `width` values of source into target."""

    def operation(typing_context, target, out, source, first):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            item = context.get_data_type(signature.args[0].dtype)
            vector = ir.VectorType(item, width).as_pointer()
            align = context.get_abi_sizeof(item)

            def place(array: int, index: int) -> Any:
                data = context.make_array(signature.args[array])(context, builder, arguments[array])
                pointer = builder.gep(data.data, [arguments[index]])
                return builder.bitcast(pointer, vector)

            destination = place(0, 1)
            values = builder.load(place(2, 3), align=align)
            if add:
                values = builder.fadd(builder.load(destination, align=align), values)
            builder.store(values, destination, align=align)
            return context.get_dummy_value()

        return types.none(target, types.intp, source, types.intp), generate

    return intrinsic(operation)


_copy_16 = _vector_operation(VECTOR, add=False)
_add_16 = _vector_operation(VECTOR, add=True)
_add_4 = _vector_operation(4, add=True)


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
