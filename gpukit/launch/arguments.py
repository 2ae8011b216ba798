"""Converters of a kernel's arguments, one for each parameter, made once when the kernel is bound.

A converter gives the argument as engines take it (an array as it is, None for a null pointer, a
NumPy scalar of the parameter's type, of a struct an array of shape ()) or raises a GpukitError that
names kernel and parameter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpukit.errors import DTypeError, GpukitError, ShapeError
from gpukit.launch.sources import Parameter

Converter = Callable[[Any], Any]
REMEMBERED = 256  # integers of a parameter


def converter(parameter: Parameter, dtype: np.dtype, kernel: str) -> Converter:
    """The converter of a parameter whose elements, or whose value, are of `dtype`."""
    where = f"{kernel}: argument {parameter.name}"
    if parameter.is_pointer:
        return _array(where, dtype, parameter.name.endswith("_or_null"))
    return _scalar(where, parameter.type, dtype)


def _scalar(where: str, c_type: str, dtype: np.dtype) -> Converter:
    makers = {"b": _flag, "i": _integer, "u": _integer, "V": _struct}
    return makers.get(dtype.kind, _real)(where, c_type, dtype)


def _array(where: str, dtype: np.dtype, may_be_null: bool) -> Converter:
    def convert(value: Any) -> Any:
        if value is None:
            if may_be_null:
                return None
            raise GpukitError(f"{where} is None; pass an array (only …_or_null may be null)")
        try:
            given, flags = value.dtype, value.flags
        except AttributeError:
            kind = type(value).__name__
            raise DTypeError(f"{where} is {kind}; pass an array of {dtype}") from None
        if given != dtype:
            raise DTypeError(
                f"{where} has elements of {given}, the kernel's are {dtype}; convert with astype, "
                f"or launch the instance for {given}"
            )
        if not flags.c_contiguous:
            shape = tuple(value.shape)
            raise ShapeError(f"{where} of shape {shape} is not contiguous; pass contiguous(a)")
        return value

    return convert


def _flag(where: str, c_type: str, dtype: np.dtype) -> Converter:
    def convert(value: Any) -> np.generic:
        if type(value) is not bool and not isinstance(value, np.bool_):
            raise _wrong(where, c_type, dtype, value)
        return np.bool_(value)

    return convert


def _integer(where: str, c_type: str, dtype: np.dtype) -> Converter:
    limits = np.iinfo(dtype)
    least, most, make = int(limits.min), int(limits.max), dtype.type
    made: dict[int, np.generic] = {}  # a training loop passes the same few at every step

    def convert(value: Any) -> np.generic:
        if type(value) is int:
            found = made.get(value)
            if found is not None:
                return found
        else:  # a NumPy integer, or an int of another class; no bool
            number = value.item() if isinstance(value, np.generic) else value
            if not isinstance(number, int) or isinstance(number, bool):
                raise _wrong(where, c_type, dtype, value)
            value = int(number)
        if not least <= value <= most:
            raise DTypeError(f"{where}={value} does not fit into {dtype}; cut the work into parts")
        scalar = make(value)
        if len(made) < REMEMBERED:
            made[value] = scalar
        return scalar

    return convert


def _real(where: str, c_type: str, dtype: np.dtype) -> Converter:
    make = dtype.type

    def convert(value: Any) -> np.generic:
        if type(value) is not float:
            number = value.item() if isinstance(value, np.generic) else value
            if not isinstance(number, (int, float)) or isinstance(number, bool):
                raise _wrong(where, c_type, dtype, value)
            value = number
        return make(value)

    return convert


def _struct(where: str, c_type: str, dtype: np.dtype) -> Converter:
    """Takes a NamedTuple with the struct's members; CuPy passes arrays of one element by value."""
    names = dtype.names or ()
    members = [_scalar(f"{where}.{name}", str(dtype[name]), dtype[name]) for name in names]
    # By identity: (1, 2) equals (True, 2.0). The value is kept, so that its id stays its own.
    made: dict[int, tuple[Any, np.ndarray]] = {}

    def convert(value: Any) -> np.ndarray:
        found = made.get(id(value))
        if found is not None:
            return found[1]
        if getattr(value, "_fields", None) != names:
            kind = type(value).__name__
            raise DTypeError(
                f"{where} takes a {c_type} with the members {', '.join(names)}, got a {kind}"
            )
        struct = np.array(tuple(make(v) for make, v in zip(members, value)), dtype)
        struct.flags.writeable = False
        if len(made) < REMEMBERED:
            made[id(value)] = value, struct
        return struct

    return convert


def _wrong(where: str, c_type: str, dtype: np.dtype, value: Any) -> DTypeError:
    kind = type(value).__name__
    return DTypeError(f"{where} takes a {c_type} ({dtype}), got {value!r} ({kind})")
