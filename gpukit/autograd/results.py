"""What users give and their functions return: refused, by name, where it would go wrong later.

A layer, loss, penalty or gradient that returns an array for a Tensor, None, another dtype, shape or
device would train something else than it says, or fail far from its cause.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpukit.autograd.tape import is_recording
from gpukit.core.config import show
from gpukit.device import ARRAY_TYPES, device_of, refuse_sequences
from gpukit.errors import DeviceError, DTypeError, GpukitError, ShapeError, TapeError


def check_made(
    who: str,
    value: Any,
    like: Any,
    shape: Sequence[int | None] | None,
    *,
    tape: bool = True,
    anywhere: bool = False,
) -> None:
    """Refuse what a user's function made of `like`, where it would be wrong in silence.

    Of a Tensor comes a Tensor (with `tape` one that leads back), on its device (or `anywhere`), in
    its floating dtype, of `shape` (None: any length, or any shape). `who` begins the message.
    """
    kind = type(value).__name__
    if _is_tensor(like):
        if not _is_tensor(value):
            raise TapeError(
                f"{who} returned a {kind} for a Tensor, which has no way back to it; compute with "
                "gpukit.ops and the operators of Tensors, without .numpy()"
            )
        if tape and like.requires_grad and not value.requires_grad and is_recording():
            raise TapeError(
                f"{who} returned a Tensor without a way back to its input; compute with "
                "gpukit.ops on the Tensor itself, not on its array"
            )
        like, value = like._array, value._array
    elif _is_tensor(value):
        value = value._array
    elif not is_array(value):
        raise DTypeError(f"{who} returned a {kind}; return an array or a Tensor")
    if not anywhere and device_of(value) is not device_of(like):
        raise DeviceError(
            f"{who} returned an array on {device_of(value)} for one on {device_of(like)}; make it "
            "on the device of its input"
        )
    if like.dtype.kind == "f" and value.dtype != like.dtype:
        raise DTypeError(
            f"{who} returned {value.dtype} for {like.dtype}; cast it with .astype(np.{like.dtype})"
        )
    found = tuple(value.shape)
    if shape is not None and (
        len(found) != len(shape) or any(n not in (None, m) for n, m in zip(shape, found))
    ):
        raise ShapeError(f"{who} returned shape {found}; it must be {tuple(shape)}")


def _checked_gradients(name: str, arrays: Sequence[Any], gradients: Any) -> Any:
    """`gradients` of an operation of the user's, as functions that check their results."""

    def check(i: int, value: Any) -> Any:
        if is_array(arrays[i]):
            check_made(f"{name}'s gradient {i + 1}", value, arrays[i], arrays[i].shape)
        return value

    if callable(gradients):
        return lambda grad: [
            None if value is None else check(i, value) for i, value in enumerate(gradients(grad))
        ]
    if not isinstance(gradients, (tuple, list)) or len(gradients) != len(arrays):
        raise TapeError(
            f"{name} gives no gradient function for each of its {len(arrays)} arrays; return "
            "(result, (function of gy, …)), None where there is no gradient"
        )

    def wrapped(i: int, gradient: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda grad: check(i, gradient(grad))

    return tuple(None if g is None else wrapped(i, g) for i, g in enumerate(gradients))


def checked(name: str, made: Any, arrays: Sequence[Any]) -> tuple[Any, ...]:
    """What an operation of the user's returned, its gradients checked when they are computed."""
    if not isinstance(made, tuple) or len(made) not in (2, 3):
        raise TapeError(f"{name} returned a {type(made).__name__}; return (result, gradients)")
    like = next((a for a in arrays if is_array(a)), None)
    if like is None or _is_tensor(made[0]):
        raise DTypeError(f"{name} returned a {type(made[0]).__name__}; return an array")
    check_made(name, made[0], like, None, anywhere=True)  # it may copy to another device
    return (made[0], _checked_gradients(name, arrays, made[1]), *made[2:])


def values_of(name: str, value: Any) -> Any:
    """`value`, lists of numbers made an array, whatever else has a shape as it is."""
    if _is_tensor(value) or is_array(value):
        return value
    refuse_sequences(value)
    try:
        return np.asarray(value)
    except (ValueError, TypeError):
        raise DTypeError(f"{name}: {show(value)} is no array; pass numbers") from None


def operand(name: str, x: Any) -> Any:
    """The array behind x, an array or Tensor of numbers; DTypeError for anything else."""
    array = x._array if _is_tensor(x) else x
    if not is_array(array) or type(array).__name__ == "MaskedArray":
        raise DTypeError(f"{name}: got a {type(x).__name__}; pass an array or a Tensor")
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"{name}: got an array of {array.dtype}; pass numbers")
    return array


def refuse_scalars(
    name: str, array_names: list[str], arrays: list[Any], error: AttributeError | TypeError
) -> None:
    """Name the number or None at which an operation that needs arrays failed, if there is one."""
    for i, a in enumerate(arrays):
        kind = type(a).__name__
        scalar = a is None or isinstance(a, (int, float))
        named = re.search(rf"\b{kind}\b", str(error)) is not None
        if scalar and named and not isinstance(error, GpukitError):
            what = f"{name}: {argument(array_names, i)} is a {kind}"
            raise DTypeError(f"{what}; pass an array or a Tensor") from None


def argument(array_names: list[str], i: int) -> str:
    return f"argument {array_names[i]!r}" if i < len(array_names) else f"argument {i + 1}"


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "_array") and hasattr(value, "requires_grad")


def is_array(value: Any) -> bool:
    return isinstance(value, ARRAY_TYPES) or hasattr(value, "__cuda_array_interface__")
