"""Copies of a launch's arrays between canaries that show writes out of bounds."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

CANARY = 512  # bytes
_MARK = 0xC5


class Guarded:
    """The memory of `arrays`, each stretch of it copied to a place of its own for one launch.

    Arrays that share memory still do. `exact` places are bare heap blocks, for ASan's red zones to
    border on; the others have canaries around them.
    """

    def __init__(self, arrays: list[np.ndarray], *, exact: bool) -> None:
        self._arrays = arrays
        self._exact = exact
        stretches: list[list[int]] = []
        for start, end, i in sorted((*_extent(a), i) for i, a in enumerate(arrays)):
            if stretches and start < stretches[-1][1]:
                stretches[-1][1] = max(stretches[-1][1], end)
            else:
                stretches.append([start, end, i])
        self._places = [(s, e, i, self._copy(s, e)) for s, e, i in stretches]

    def address(self, array: np.ndarray) -> int:
        """Where `array` starts in its copy."""
        start, _ = _extent(array)
        for first, last, _, (place, _) in self._places:
            if first <= start < last or (start == first == last):
                return place + start - first
        return self._places[0][3][0]

    def finish(self) -> tuple[int, str] | None:
        """Copy back; (number of the array, what was found) if a canary has changed."""
        problem: tuple[int, str] | None = None
        for start, end, i, (place, whole) in self._places:
            size = end - start
            ctypes.memmove(start, place, size)
            if self._exact:
                _libc.free(place)
                continue
            before = int(np.count_nonzero(whole[:CANARY] != _MARK))
            after = int(np.count_nonzero(whole[CANARY + size :] != _MARK))
            if before or after:
                where = "before the start" if before else "behind the end"
                problem = i, f"wrote {before or after} bytes {where} of its argument"
        return problem

    def _copy(self, start: int, end: int) -> tuple[int, Any]:
        size = end - start
        if self._exact:
            place = _libc.malloc(max(size, 1))
            whole = None
        else:
            buffer = np.full(size + 2 * CANARY + 256, _MARK, np.uint8)
            skip = -buffer.ctypes.data % 256
            whole = buffer[skip : skip + size + 2 * CANARY]
            place = whole.ctypes.data + CANARY
        ctypes.memmove(place, start, size)
        return place, whole


def _extent(array: np.ndarray) -> tuple[int, int]:
    start = array.ctypes.data
    return start, start + array.nbytes


_libc = ctypes.CDLL(None)
_libc.malloc.restype = ctypes.c_void_p
_libc.malloc.argtypes = [ctypes.c_size_t]
_libc.free.argtypes = [ctypes.c_void_p]
