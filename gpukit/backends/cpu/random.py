"""Philox4x32-10 in integers of 64 bits, one block of four words at a time; dropout on top of it."""

from __future__ import annotations

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cpu.runtime.common import Array, flat, is_float
from gpukit.backends.cpu.runtime.jit import at, jit
from gpukit.backends.cpu.runtime.memory import empty
from gpukit.backends.cpu.runtime.threads import Ranges, for_ranges, tasks_of
from gpukit.primitives.random import place_of

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_K0, _K1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
# Some 3 ns an element.
_TASK_SIZE = 40_000


@jit(inline=True)
def _block(number, key0, key1, layer, step):  # type: ignore[no-untyped-def]
    """The four words of one block; everything uint64 that holds 32 bits."""
    a, b, c, d = number & _LOW, number >> _HALF, layer, step
    for _ in range(10):
        left, right = a * _M0, c * _M1
        a, b, c, d = (
            (right >> _HALF) ^ b ^ key0,
            right & _LOW,
            (left >> _HALF) ^ d ^ key1,
            left & _LOW,
        )
        key0, key1 = (key0 + _K0) & _LOW, (key1 + _K1) & _LOW
    return a, b, c, d


@jit
def _words(out, key0, key1, layer, step, first, last):  # type: ignore[no-untyped-def]
    """Blocks first … last of the words, into out (uint32); the last block may be cut short."""
    size = len(out)
    for block in range(first, last):
        words = _block(np.uint64(block), key0, key1, layer, step)
        for i in range(min(4, size - 4 * block)):
            out[at(4 * block + i)] = words[i]


@jit
def _dropout(x, y, limit, scale, key0, key1, layer, step, first, last):  # type: ignore[no-untyped-def]
    size = len(x)
    whole = min(last, size // 4)
    for block in range(first, whole):
        a, b, c, d = _block(np.uint64(block), key0, key1, layer, step)
        i = 4 * block
        y[at(i)] = x[at(i)] * scale if a >= limit else 0
        y[at(i + 1)] = x[at(i + 1)] * scale if b >= limit else 0
        y[at(i + 2)] = x[at(i + 2)] * scale if c >= limit else 0
        y[at(i + 3)] = x[at(i + 3)] * scale if d >= limit else 0
    for block in range(max(whole, first), last):
        words = _block(np.uint64(block), key0, key1, layer, step)
        for i in range(4 * block, size):
            y[at(i)] = x[at(i)] * scale if words[i - 4 * block] >= limit else 0


def _key(seed: int, layer: int, step: int) -> map:
    return map(np.uint64, place_of(seed, layer, step))


def _tasks(size: int) -> Ranges:
    """Ranges of blocks."""
    return tasks_of(-(-size // 4), size, _TASK_SIZE)


@p.philox.on("cpu", name="numba")
def _(like: Array, *, shape: tuple[int, ...], seed: int, layer: int, step: int) -> Array:
    words = empty(tuple(shape), np.dtype(np.uint32))
    for_ranges(_tasks(words.size), _words, words.reshape(-1), *_key(seed, layer, step))
    return words


@p.dropout.on("cpu", name="numba", supports=lambda x, **_: is_float(x))
def _(x: Array, *, rate: float, seed: int, layer: int, step: int, scale: float) -> Array:
    y = empty(x.shape, x.dtype)
    limit, factor = np.uint64(round(float(rate) * 2**32)), x.dtype.type(scale)
    key = _key(seed, layer, step)
    for_ranges(_tasks(x.size), _dropout, flat(x), y.reshape(-1), limit, factor, *key)
    return y
