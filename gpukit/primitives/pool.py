"""Max, average and global average pooling over windows, with gradients.

Padding never takes part: it cannot be the maximum and is not counted in an average.
Letters as in conv.py: images (N,H,W,C), output (N,P,Q,C), window R×S, padding ((top, bottom),
(left, right)).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpukit.dispatch.declaration import Argument, Declaration, Form, Problem, Sizes
from gpukit.dispatch.dice import Case, Dice
from gpukit.dispatch.primitive import primitive
from gpukit.errors import SettingError
from gpukit.primitives.accumulate import Array, long_mean
from gpukit.primitives.calls import MAP, USUAL_MAP, call, normal, pixels
from gpukit.primitives.windows import Window, crop_image, pad_image, zeros_padded

POOL = Form("pool", ("N", "H", "W", "C", "R", "S", "stride", "pad"), (0,), layers="max_pools")
_USUAL = (*USUAL_MAP, 2, 2, 2, 0)
Pooled = tuple[Sizes, Sizes, Window]  # shapes of x and y, and the window


def index_dtype(window: Window) -> type[np.unsignedinteger]:
    """The narrowest unsigned type that numbers the window's cells: uint8 up to 256 of them."""
    if window.cells <= 1 << 8:
        return np.uint8
    return np.uint16 if window.cells <= 1 << 16 else np.uint32


def pooled(n: int, h: int, w: int, c: int, r: int, s: int, stride: int, pad: int) -> Pooled:
    """The pooling of sizes in the order of POOL."""
    if pad >= min(r, s):
        raise SettingError(f"padding {pad} is not smaller than the window of {r}×{s}")
    if h + 2 * pad < r or w + 2 * pad < s:
        raise SettingError(f"a window of {r}×{s} is larger than {h}×{w} with padding {pad}")
    window = Window((r, s), (stride, stride), ((pad, pad), (pad, pad)))
    return (n, h, w, c), window.pooled((n, h, w, c)), window


def pooling(dice: Dice) -> Pooled:
    """An awkward one; no window lies wholly in the padding."""
    while True:
        size = (dice.between(1, 4), dice.between(1, 4))
        if dice.chance(0.04):
            size = (dice.one(1, 16, 17), dice.one(16, 257))
        stride = (dice.between(1, 5), dice.between(1, 5))
        padding = tuple((dice.between(0, f - 1), dice.between(0, f - 1)) for f in size)
        image = (dice.one(1, dice.between(1, 12)), dice.one(1, dice.between(1, 12)))
        if max(size) > 4:
            padding, image = ((0, 0), (0, 0)), (size[0] + 1, size[1] + 2)
        if all(f <= n + sum(pads) for f, n, pads in zip(size, image, padding)):
            break
    x = (dice.one(0, 1, 2), *image, dice.one(1, 2, 3, 5, 8, 17))
    window = Window(size, stride, padding)  # type: ignore[arg-type]
    return x, window.pooled(x), window


def index_bytes(y: Sizes, window: Window) -> int:
    """Of max_pool2d's index."""
    return math.prod(y) * np.dtype(index_dtype(window)).itemsize


def _plain(dice: Dice) -> tuple[Array, Window]:
    """Images under square windows without padding."""
    size = dice.one(2, 2, 3)
    stride = dice.one(size, 2)
    shape = (dice.one(1, 2), dice.between(size, 12), dice.between(size, 12))
    return dice.array(*shape, dice.one(1, 3, 4, 8, 16)), Window((size, size), (stride, stride))


def _plain_maximum(dice: Dice) -> Case:
    x, window = _plain(dice)
    return Case([x], {"window": window}, exact=True, length=window.cells)


def _plain_average(dice: Dice) -> Case:
    x, window = _plain(dice)
    return Case([x], {"window": window}, length=window.cells)


def _forward(sizes: Sizes, **known: Any) -> Problem:
    x, y, window = pooled(*sizes)
    seen = x[0] * x[3] * pixels(window, x[1:3])[0]
    elements = max(seen, math.prod(y))
    return call(
        [normal(*x)],
        y,
        settings={"window": window},
        flop=elements,
        least_flop=elements,
        read=4 * seen,
        length=window.cells,
        by_image=(0,),
        **known,
    )


def _maximum(dice: Dice) -> Case:
    x, _, window = pooling(dice)
    return Case([dice.holes(dice.array(*x))], {"window": window}, exact=True)


def _maximum_call(*sizes: int) -> Problem:
    _, y, window = pooled(*sizes)
    return _forward(sizes, written=4 * math.prod(y) + index_bytes(y, window), exact=True)


@primitive(Declaration(_maximum, POOL, _maximum_call, _USUAL, plain=_plain_maximum))
def max_pool2d(x: Array, *, window: Window) -> tuple[Array, Array]:
    """The largest cell of each window, and which one it was.

    x (N,H,W,C) -> y (N,P,Q,C) of x's dtype, index (N,P,Q,C): the row-major number r·S + s of the
    cell, uint8 up to 256 cells, else uint16 or uint32. Ties: the first in row-major order. NaN
    wins, the first of several. Every window must hold a pixel (geometry.py refuses other paddings).
    """
    shape = _, p, q, _ = window.pooled(x.shape)
    padded = pad_image(x, window.padding)
    inside = pad_image(np.ones_like(x, shape=(1, *x.shape[1:3], 1), dtype=np.bool_), window.padding)
    best = np.zeros_like(x, shape=shape)
    index = np.zeros_like(x, shape=shape, dtype=index_dtype(window))
    seen = np.zeros_like(x, shape=(1, p, q, 1), dtype=np.bool_)
    for r, s, tap in window.taps((p, q)):
        cell, real = padded[tap], inside[tap]
        larger = (cell > best) | (np.isnan(cell) & ~np.isnan(best))
        better = real & (larger | ~seen)
        best = np.where(better, cell, best)
        index = np.where(better, r * window.size[1] + s, index).astype(index.dtype, copy=False)
        seen = seen | real
    return best, index


def _maximum_grad(dice: Dice) -> Case:
    x, y, window = pooling(dice)
    # Any cell that is a pixel could have won; others are not in a real index, but do no harm.
    index = dice.integers(0, window.cells, y, index_dtype(window))
    arrays = [dice.array(*y), dice.spread(index)]
    return Case(arrays, {"window": window, "input_shape": x}, dice.whole, window.cells)


def _backward(pooling: Pooled, *more: Argument) -> Problem:
    """From gy and `more` arrays of the output's shape."""
    x, y, window = pooling
    return call(
        [normal(*y), *more],
        x,
        settings={"window": window, "input_shape": x},
        length=window.cells,
        by_image=tuple(range(1 + len(more))),
    )


def _maximum_grad_call(*sizes: int) -> Problem:
    x, y, window = pooled(*sizes)

    def index(random: np.random.Generator, _: list[Array]) -> Array:
        return max_pool2d.reference(random.standard_normal(x, np.float32), window=window)[1]

    return _backward((x, y, window), Argument(y, index_dtype(window), index))


@primitive(Declaration(_maximum_grad, POOL, _maximum_grad_call, _USUAL))
def max_pool2d_grad(
    gy: Array, index: Array, *, input_shape: tuple[int, ...], window: Window
) -> Array:
    """Each gy goes to the pixel that won its window, overlapping windows add up.

    gy (N,P,Q,C), index (N,P,Q,C) from max_pool2d -> gx `input_shape`.
    """
    padded = zeros_padded(gy, input_shape, window.padding)
    for r, s, tap in window.taps(gy.shape[1:3]):
        padded[tap] += np.where(index == r * window.size[1] + s, gy, 0)
    return crop_image(padded, input_shape, window.padding)


def _cell_counts(like: Array, image: tuple[int, ...], window: Window) -> Array:
    """How many pixels, padding not counted, each window holds: (1,P,Q,1), at least 1."""
    p, q = window.output_shape(image)
    pixels = pad_image(np.ones_like(like, shape=(1, *image, 1)), window.padding)
    counts = np.zeros_like(like, shape=(1, p, q, 1))
    for _, _, tap in window.taps((p, q)):
        counts = counts + pixels[tap]
    return np.maximum(counts, 1)


def _average(dice: Dice) -> Case:
    x, _, window = pooling(dice)
    return Case([dice.array(*x)], {"window": window}, length=window.cells)


@primitive(
    Declaration(_average, POOL, lambda *sizes: _forward(sizes), _USUAL, plain=_plain_average)
)
def avg_pool2d(x: Array, *, window: Window) -> Array:
    """The mean of each window's pixels, padding not counted: x (N,H,W,C) -> y (N,P,Q,C).

    Accumulated in float64: a window may be a whole feature map.
    """
    padded = pad_image(x, window.padding)
    total = np.zeros_like(x, shape=window.pooled(x.shape), dtype=np.float64)
    for _, _, tap in window.taps(total.shape[1:3]):
        total += padded[tap]
    return (total / _cell_counts(total, x.shape[1:3], window)).astype(x.dtype)


def _average_grad(dice: Dice) -> Case:
    x, y, window = pooling(dice)
    return Case([dice.array(*y)], {"window": window, "input_shape": x}, length=window.cells)


@primitive(Declaration(_average_grad, POOL, lambda *sizes: _backward(pooled(*sizes)), _USUAL))
def avg_pool2d_grad(gy: Array, *, input_shape: tuple[int, ...], window: Window) -> Array:
    """Each gy is shared equally among its window's pixels: gy (N,P,Q,C) -> gx `input_shape`."""
    share = gy / _cell_counts(gy, input_shape[1:3], window)
    padded = zeros_padded(gy, input_shape, window.padding)
    for _, _, tap in window.taps(gy.shape[1:3]):
        padded[tap] += share
    return crop_image(padded, input_shape, window.padding)


def _map(dice: Dice) -> tuple[int, int, int, int]:
    n, h, w = dice.one(0, 1, 3), dice.between(1, 30), dice.between(1, 30)
    return n, h, w, dice.one(1, 2, 3, 8, 33, 100)


def _global(dice: Dice) -> Case:
    shape = _map(dice)
    return Case([dice.array(*shape)], length=shape[1] * shape[2])


@primitive(
    Declaration(
        _global,
        MAP,
        lambda n, h, w, c: call([normal(n, h, w, c)], (n, c), length=min(h * w, 200)),
        usual=(32, 14, 14, 256),
        layers="global_pools",
    )
)
def global_avg_pool2d(x: Array) -> Array:
    """The mean of each channel's whole map: x (N,H,W,C) -> (N,C) (Lin et al., 2013)."""
    return long_mean(x, (1, 2))


def _global_grad(dice: Dice) -> Case:
    shape = _map(dice)
    return Case([dice.array(shape[0], shape[3])], {"input_shape": shape})


@primitive(
    Declaration(
        _global_grad,
        MAP,
        lambda *shape: call([normal(shape[0], shape[3])], shape, settings={"input_shape": shape}),
        usual=(32, 14, 14, 256),
        layers="global_pools",
    )
)
def global_avg_pool2d_grad(gy: Array, *, input_shape: tuple[int, ...]) -> Array:
    """gy (N,C) / (H·W) at every pixel: gx `input_shape` (N,H,W,C)."""
    n, h, w, c = input_shape
    share = np.reshape(gy / (h * w), (n, 1, 1, c))
    return np.zeros_like(gy, shape=input_shape) + share
