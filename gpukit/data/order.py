"""Orders that a seed fixes, the same in every version of NumPy, and parts held out by them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpukit.errors import SettingError


def permutation(count: int, seed: int, *stream: int) -> NDArray[np.intp]:
    """The indices 0 … count - 1 in an order that (seed, stream) fixes; streams are independent.

    NumPy promises that the raw words of a bit generator never change, but not what
    `Generator.permutation` makes of them, and a resumed run must find its order again: the order
    is that of the words themselves. Raises `SettingError` for a negative seed.
    """
    if seed < 0:
        raise SettingError(f"seed {seed}: use 0 or more")
    words = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=stream)).random_raw(count)
    return np.argsort(words, kind="stable")


def held_out(
    count: int, fraction: float, seed: int, *stream: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """`fraction` of the indices 0 … count - 1, at least one where it is above 0, and the others, of
    which at least one is left."""
    held = min(max(round(count * fraction), int(fraction > 0)), max(count - 1, 0))
    order = permutation(count, seed, *stream)
    return order[:held], order[held:]
