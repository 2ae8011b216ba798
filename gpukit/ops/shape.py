"""Operations that move values without changing them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpukit import primitives as p
from gpukit.autograd import differentiable
from gpukit.autograd.results import operand
from gpukit.core.config import number, show, whole, wholes
from gpukit.errors import DTypeError, GpukitError, SettingError, ShapeError
from gpukit.ops.elementwise import sum_to
from gpukit.ops.passes import gradient_by

__all__ = ["broadcast_to", "concat", "flatten", "index", "pad", "reshape", "split", "transpose"]


@differentiable
def reshape(x: Any, *, shape: Sequence[int], algo: str | None = None) -> Any:
    """The values of x in row-major order in another shape; one length may be −1."""
    before = tuple(x.shape)
    after = tuple(int(n) for n in shape)
    known = math.prod(n for n in after if n != -1)
    size = math.prod(before)
    if after.count(-1) == 1 and known and size % known == 0:
        after = tuple(size // known if n == -1 else n for n in after)
    if -1 in after or math.prod(after) != size:
        raise ShapeError(f"reshape: {before} has {size} elements, which do not fit {tuple(shape)}")
    y = p.reshape(x, shape=after, algo=algo)
    return y, (lambda gy: p.reshape(gy, shape=before, algo=algo),)


def flatten(x: Any, *, algo: str | None = None) -> Any:
    """(N, …) → (N, product of the rest)."""
    shape = tuple(operand("flatten", x).shape)
    if not shape:
        raise ShapeError("flatten: x has no axes; it must be (N, …)")
    return reshape(x, shape=(shape[0], math.prod(shape[1:])), algo=algo)


@differentiable
def transpose(x: Any, *, axes: Sequence[int] | None = None, algo: str | None = None) -> Any:
    """Axes permuted; reversed by default."""
    order = tuple(reversed(range(x.ndim)))
    if axes is not None:
        order = tuple(a % x.ndim if -x.ndim <= a < x.ndim else -1 for a in axes)
    if sorted(order) != list(range(x.ndim)):
        raise ShapeError(f"transpose: axes {axes} are no permutation of {x.ndim} axes")
    inverse = tuple(order.index(i) for i in range(x.ndim))
    y = p.transpose(x, axes=order, algo=algo)
    return y, (lambda gy: p.transpose(gy, axes=inverse, algo=algo),)


@differentiable
def _concat(*arrays: Any, axis: int, algo: str | None) -> Any:
    sections = [a.shape[axis] for a in arrays]

    def gradients(gy: Any) -> Any:
        return p.split(gy, sections=sections, axis=axis)

    return p.concat(arrays, axis=axis, algo=algo), gradients


def concat(arrays: Sequence[Any], axis: int = -1, *, algo: str | None = None) -> Any:
    """Arrays joined along `axis`; their other lengths must agree."""
    if not isinstance(arrays, (list, tuple)):
        raise DTypeError(f"concat: got a {type(arrays).__name__}; pass a list of arrays or Tensors")
    if not arrays:
        raise ShapeError("concat: no arrays given")
    for a in arrays:
        if not hasattr(a, "shape"):
            raise DTypeError(f"concat: got a {type(a).__name__}; pass arrays or Tensors")
        operand("concat", a)
    axis = whole("concat: axis", axis, low=None)
    shapes = [tuple(a.shape) for a in arrays]
    ndim = len(shapes[0])
    if not -ndim <= axis < ndim:
        raise ShapeError(f"concat: axis {axis} does not exist in arrays of {ndim} axes")
    at = axis % ndim
    if len({(len(s), s[:at], s[at + 1 :]) for s in shapes}) > 1:
        raise ShapeError(f"concat: shapes {shapes} differ in more than axis {at}")
    return _concat(*arrays, axis=at, algo=algo)


def split(x: Any, sections: int | Sequence[int], axis: int = -1) -> tuple[Any, ...]:
    """x cut along `axis` into `sections` equal parts, or into parts of the lengths given."""
    shape = tuple(operand("split", x).shape)
    axis = whole("split: axis", axis, low=None)
    if not -len(shape) <= axis < len(shape):
        raise ShapeError(f"split: axis {axis} does not exist in an array of {len(shape)} axes")
    length = shape[axis]
    if not isinstance(sections, (tuple, list)):
        sections = whole("split: sections", sections, low=None)
        if sections < 1 or length % sections:
            raise ShapeError(f"split: {length} along axis {axis} is not {sections} equal parts")
        sections = [length // sections] * sections
    sections = wholes("split: sections", sections)
    if sum(sections) != length or any(n < 0 for n in sections):
        raise ShapeError(f"split: sections {list(sections)} do not add up to {length}")
    at = axis % len(shape)
    parts, start = [], 0
    for n in sections:
        parts.append(index(x, key=(slice(None),) * at + (slice(start, start + n),)))
        start += n
    return tuple(parts)


@differentiable
def _pad(x: Any, *, widths: tuple[tuple[int, int], ...], value: float, algo: str | None) -> Any:
    inside = tuple(slice(before, before + n) for (before, _), n in zip(widths, x.shape))
    y = p.pad(x, widths=widths, value=value, algo=algo)
    return y, (lambda gy: p.index(gy, key=inside),)


def pad(
    x: Any, widths: Sequence[tuple[int, int]], value: float = 0.0, *, algo: str | None = None
) -> Any:
    """x with `widths[i]` = (before, after) cells of `value` along each axis i."""
    shape = tuple(operand("pad", x).shape)
    try:
        pairs = [wholes("widths", pair) for pair in widths]
    except (TypeError, SettingError):
        pairs = []
    if len(pairs) != len(shape) or any(len(pair) != 2 or min(pair) < 0 for pair in pairs):
        raise ShapeError(
            f"pad: widths {show(widths)} need one (before, after) pair, 0 or more, for each axis "
            f"of {shape}"
        )
    return _pad(x, widths=tuple(pairs), value=number("pad: value", value, finite=False), algo=algo)


@differentiable
def index(x: Any, *, key: Any, algo: str | None = None) -> Any:
    """x[key], with integers, slices or integer arrays."""
    shape = tuple(x.shape)

    def gradient(gy: Any) -> Any:
        return gradient_by(algo, p.index_grad, gy, key=key, input_shape=shape)

    try:
        y = p.index(x, key=key, algo=algo)
    except GpukitError:
        raise
    except (IndexError, TypeError, ValueError) as error:
        raise ShapeError(f"index: {shape} has no [{show(key)}] ({error})") from None
    return y, (gradient,)


@differentiable
def broadcast_to(x: Any, *, shape: Sequence[int], algo: str | None = None) -> Any:
    """x repeated over the axes that it lacks, or has with length 1."""
    before, after = tuple(operand("broadcast_to", x).shape), tuple(shape)
    try:
        fits = min(after, default=0) >= 0 and np.broadcast_shapes(before, after) == after
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(f"broadcast_to: {before} cannot be repeated to {after}")
    return p.broadcast_to(x, shape=after, algo=algo), (lambda gy: sum_to(gy, x),)
