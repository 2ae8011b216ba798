"""A call's operations and bytes, and the bounds of its result: convolution, pooling, products.

Counting. A multiply-add is two operations; a convolution's padding counts, as it does in all
published figures, and everything that is no matrix product counts one operation an element of its
largest array. Bytes are the least that must move: each argument read once, each result written
once, one that is changed in place both; of a convolution's input, the pixels that a window sees.
What is no array of the call, as the numbers of the rows that `index` picks, does not count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gpukit.errors import SettingError
from gpukit.primitives.geometry import conv_output_size
from gpukit.primitives.normalisation import Response
from gpukit.primitives.pool import index_dtype
from gpukit.primitives.windows import Conv, Window
from gpukit.race.tables import Sizes

# Krizhevsky et al., 2012, section 3.3
RESPONSE = Response(size=5, alpha=5e-4, beta=0.75, k=2.0)


@dataclass(frozen=True)
class Problem:
    """One call: `flop` and `least_flop` operations, by convention and without padding; bytes read
    and written at least; its result a sum of `length` terms of about `scale`, or `exact`.

    `scales`: of each result, where they are not alike. `in_place`: the positions of the arguments
    that the call changes, which are then its results.
    """

    primitive: str
    layer: str
    sizes: Sizes
    settings: dict[str, Any] = field(default_factory=dict)
    flop: int = 0
    least_flop: int = 0
    read: int = 0
    written: int = 0
    length: int = 1
    scale: float = 1.0
    scales: tuple[float, ...] = ()
    exact: bool = False
    in_place: tuple[int, ...] = ()
    count: int = 1
    network: str = ""

    @property
    def form(self) -> str:
        """The sizes as `--layers` takes them."""
        return ",".join(map(str, self.sizes))

    @property
    def bytes(self) -> int:
        """Read and written together, at least."""
        return self.read + self.written


def conv(primitive: str, sizes: Sizes) -> Problem:
    """conv2d and its gradients."""
    n, h, w, c, k, r, s, stride, pad, groups = sizes
    pads = (pad, pad)
    if c % groups or k % groups:
        raise SettingError(f"C = {c} and K = {k} do not divide into groups = {groups}")
    p, q = conv_output_size(h, r, stride, pads), conv_output_size(w, s, stride, pads)
    if not p or not q:
        raise SettingError(f"a {r}×{s} kernel is larger than {h}×{w} with padding {pad}")
    depth, taps = c // groups, _taps(h, p, r, stride, pad) * _taps(w, q, s, stride, pad)
    flop = 2 * n * p * q * k * depth * r * s
    x, seen = 4 * n * h * w * c, _seen(h, p, r, stride, pad) * _seen(w, q, s, stride, pad)
    weights, y = 4 * r * s * depth * k, 4 * n * p * q * k
    common: dict[str, Any] = {"conv": Conv((stride, stride), (pads, pads), groups=groups)}
    moved: tuple[int, int]
    if primitive == "conv2d":
        moved, length = (4 * n * seen * c + weights + 4 * k, y), r * s * depth
    elif primitive == "conv2d_input_grad":
        common["input_shape"] = (n, h, w, c)
        moved, length = (y + weights, x), r * s * k // groups
    else:
        common["kernel_shape"] = (r, s, depth, k)
        moved, length = (4 * n * seen * c + y, weights), n * p * q
    return Problem(
        primitive,
        "",
        sizes,
        common,
        flop=flop,
        least_flop=2 * n * k * depth * taps,
        read=moved[0],
        written=moved[1],
        length=length,
    )


def _taps(size: int, outputs: int, cells: int, stride: int, pad: int) -> int:
    """Along one axis, pairs of an output and a cell of its window that is a pixel."""
    return sum(
        max(min(i * stride - pad + cells, size) - max(i * stride - pad, 0), 0)
        for i in range(outputs)
    )


def _seen(size: int, outputs: int, cells: int, stride: int, pad: int) -> int:
    """Along one axis, pixels that some window holds."""
    first, count = 0, 0
    for i in range(outputs):
        begin, end = max(i * stride - pad, first), min(i * stride - pad + cells, size)
        count += max(end - begin, 0)
        first = max(first, end)
    return count


def pool(primitive: str, sizes: Sizes) -> Problem:
    """Pooling, alone or with what AlexNet has before it."""
    n, h, w, c, r, s, stride, pad = sizes
    if pad >= min(r, s):
        raise SettingError(f"padding {pad} is not smaller than the window of {r}×{s}")
    p, q = (conv_output_size(size, cells, stride, (pad, pad)) for size, cells in ((h, r), (w, s)))
    if not p or not q:
        raise SettingError(f"a window of {r}×{s} is larger than {h}×{w} with padding {pad}")
    shape, cells = (n, h, w, c), math.prod((n, p, q, c))
    seen = 4 * n * c * _seen(h, p, r, stride, pad) * _seen(w, q, s, stride, pad)
    window = Window((r, s), (stride, stride), ((pad, pad), (pad, pad)))
    index = 0 if primitive.startswith("avg") else cells * np.dtype(index_dtype(window)).itemsize
    settings: dict[str, Any] = {"window": window}
    if primitive.startswith("bias_relu"):
        settings |= {"relu": True, "response": RESPONSE}
        return _fused(primitive, sizes, settings, cells, index)
    backward = primitive.endswith("_grad")
    if backward:
        settings["input_shape"] = shape
    elements = max(math.prod(shape) if backward else seen // 4, cells)
    return Problem(
        primitive,
        "",
        sizes,
        settings,
        flop=elements,
        least_flop=elements,
        read=4 * cells + index if backward else seen,
        written=4 * math.prod(shape) if backward else 4 * cells + index,
        length=r * s,
        exact=primitive == "max_pool2d",
    )


def _fused(
    primitive: str, sizes: Sizes, settings: dict[str, Any], cells: int, index: int
) -> Problem:
    """Every pixel counts, also one that no window holds: it is the neighbour of one that counts."""
    n, h, w, c = sizes[:4]
    made = Problem(primitive, "", sizes, settings, length=16)
    x, y, bias = 4 * n * h * w * c, 4 * cells, 4 * c
    elements = max(n * h * w * c, cells)
    made = replace(made, flop=elements, least_flop=elements)
    if not primitive.endswith("_grad"):
        return replace(made, read=x + bias, written=y + index)
    count = n * h * w
    return replace(
        made,
        read=y + x + bias + index,
        written=x + bias,
        length=max(26, min(count, 200)),
        scales=(8.0, 8 * math.sqrt(count)),
    )


def product(primitive: str, sizes: Sizes) -> Problem:
    """dense, its gradients, matmul."""
    n, inputs, outputs = sizes
    x, w, y = 4 * n * inputs, 4 * inputs * outputs, 4 * n * outputs
    read, written, length = {
        "dense": (x + w + 4 * outputs, y, inputs),
        "matmul": (x + w, y, inputs),
        "dense_input_grad": (y + w, x, outputs),
        "dense_weight_grad": (x + y, w, n),
    }[primitive]
    flop = 2 * n * inputs * outputs
    return Problem(
        primitive,
        "",
        sizes,
        flop=flop,
        least_flop=flop,
        read=read,
        written=written,
        length=length,
    )
