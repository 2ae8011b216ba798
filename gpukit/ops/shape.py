"""Operations that move values without changing them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gpukit.autograd import differentiable
from gpukit.backends import reference as p
from gpukit.errors import DTypeError, ShapeError
from gpukit.ops.arithmetic import sum_to
from gpukit.ops.passes import gradient_by


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
    return reshape(x, shape=(x.shape[0], math.prod(x.shape[1:])), algo=algo)


@differentiable
def transpose(x: Any, *, axes: Sequence[int] | None = None, algo: str | None = None) -> Any:
    """Axes permuted; reversed by default."""
    order = tuple(reversed(range(x.ndim))) if axes is None else tuple(a % x.ndim for a in axes)
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
    length = x.shape[axis]
    if isinstance(sections, int):
        if sections < 1 or length % sections:
            raise ShapeError(f"split: {length} along axis {axis} is not {sections} equal parts")
        sections = [length // sections] * sections
    if sum(sections) != length or any(n < 0 for n in sections):
        raise ShapeError(f"split: sections {list(sections)} do not add up to {length}")
    at = axis % len(x.shape)
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
    pairs = tuple((int(a), int(b)) for a, b in widths)
    if len(pairs) != len(x.shape) or any(n < 0 for pair in pairs for n in pair):
        raise ShapeError(
            f"pad: widths {pairs} need one (before, after) pair, 0 or more, for each axis of "
            f"{tuple(x.shape)}"
        )
    return _pad(x, widths=pairs, value=float(value), algo=algo)


@differentiable
def index(x: Any, *, key: Any, algo: str | None = None) -> Any:
    """x[key], with integers, slices or integer arrays."""
    shape = tuple(x.shape)

    def gradient(gy: Any) -> Any:
        return gradient_by(algo, p.index_grad, gy, key=key, input_shape=shape)

    return p.index(x, key=key, algo=algo), (gradient,)


@differentiable
def broadcast_to(x: Any, *, shape: Sequence[int], algo: str | None = None) -> Any:
    """x repeated over the axes that it lacks, or has with length 1."""
    after = tuple(shape)
    return p.broadcast_to(x, shape=after, algo=algo), (lambda gy: sum_to(gy, x),)
