"""Counter-based random numbers: the same bits on every backend, in any order, any thread count.

Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). Element i
of an array is word i mod 4 of the block with counter (i div 4, layer, step) under the key `seed`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpukit.dispatch.declaration import Declaration
from gpukit.dispatch.dice import Case, Dice
from gpukit.dispatch.primitive import primitive
from gpukit.primitives.accumulate import Array
from gpukit.primitives.calls import MANY, MAP, call, normal

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)  # the golden ratio's and √3 - 1's first 32 bits
_ROUNDS = 10
_LOW = 0xFFFFFFFF


def philox4x32(
    counter: tuple[Array, Array, Array, Array], key: tuple[int, int]
) -> tuple[Array, Array, Array, Array]:
    """Ten rounds over four uint64 arrays that hold 32-bit words; the result in the same form."""
    a, b, c, d = counter
    first, second = key
    for _ in range(_ROUNDS):
        left, right = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b, c, d = (right >> 32) ^ b ^ first, right & _LOW, (left >> 32) ^ d ^ second, left & _LOW
        first, second = (first + _KEY_STEPS[0]) & _LOW, (second + _KEY_STEPS[1]) & _LOW
    return a, b, c, d


def place_of(seed: int, layer: int, step: int) -> tuple[int, int, int, int]:
    """Of 32 bits each: the key's two words, and the counter's upper two."""
    seed = int(seed)
    return seed & _LOW, (seed >> 32) & _LOW, int(layer) & _LOW, int(step) & _LOW


def _words(like: Array, shape: tuple[int, ...], seed: int, layer: int, step: int) -> Array:
    """uint64 array of `shape` that holds 32-bit random words."""
    size = math.prod(shape)
    ones = np.ones_like(like, shape=(-(-size // 4),), dtype=np.uint64)
    block = np.cumsum(ones, axis=0) - ones
    *key, third, fourth = place_of(seed, layer, step)
    counter = (block & _LOW, block >> 32, ones * third, ones * fourth)
    words = np.stack(philox4x32(counter, (key[0], key[1])), axis=-1)
    return np.reshape(np.reshape(words, (-1,))[:size], shape)


_PLACE = {"seed": 1, "layer": 0, "step": 0}


def _place(dice: Dice) -> dict[str, Any]:
    return {
        "seed": dice.one(0, 7, 2**64 - 1, dice.between(0, 2**63)),
        "layer": dice.one(0, 3, 2**32 - 1),
        "step": dice.one(0, 1, 2**32 - 1, dice.between(0, 10**6)),
    }


def _philox(dice: Dice) -> Case:
    return Case([dice.array(1)], {"shape": dice.shape(), **_place(dice)}, exact=True)


@primitive(
    Declaration(
        _philox,
        MAP,
        lambda *shape: call([normal(1)], shape, settings={"shape": shape, **_PLACE}, exact=True),
        usual=MANY,
    )
)
def philox(like: Array, *, shape: tuple[int, ...], seed: int, layer: int, step: int) -> Array:
    """uint32 random words of `shape`, on the device of `like` (whose values do not matter).

    Key (seed mod 2³², seed div 2³²); counter (block mod 2³², block div 2³², layer, step); element i
    in row-major order is word i mod 4 of block i div 4. seed below 2⁶⁴, layer and step below 2³².
    """
    return _words(like, shape, seed, layer, step).astype(np.uint32)


def _dropout(dice: Dice) -> Case:
    rate = dice.one(0.0, 0.25, 0.5, 0.9, 1.0)
    settings = {"rate": rate, "scale": dice.one(1.0, 2.0, 1.25), **_place(dice)}
    return Case([dice.holes(dice.array(*dice.shape()))], settings, exact=True)


@primitive(
    Declaration(
        _dropout,
        MAP,
        lambda *shape: call(
            [normal(*shape)], shape, settings={"rate": 0.5, "scale": 2.0, **_PLACE}, exact=True
        ),
        usual=MANY,
    )
)
def dropout(x: Array, *, rate: float, seed: int, layer: int, step: int, scale: float) -> Array:
    """x·scale where the element's Philox word is at least round(rate·2³²), else 0; any shape.

    scale is 1/(1 - rate) for inverted dropout, 1 for the classic form. The gradient is dropout of
    gy with the same arguments. Srivastava et al., 2014.
    """
    kept = _words(x, x.shape, seed, layer, step) >= round(float(rate) * 2**32)
    return np.where(kept, x * float(scale), np.zeros_like(x))
