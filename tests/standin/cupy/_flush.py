"""Subnormals of single precision are zeros, as in every kernel that CuPy compiles (-ftz=true)."""

from __future__ import annotations

import ctypes
import platform
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from cupy import _settings

# fenv_t of glibc, and where its word lies that says what becomes of subnormals.
_X86 = (32, 28, 0x8040)  # MXCSR: flush to zero, denormals are zeros
_ARM = (8, 0, 1 << 24)  # FPCR: FZ
_SIZE, _AT, _BITS = _X86 if platform.machine() in ("x86_64", "AMD64") else _ARM
_libm = ctypes.CDLL("libm.so.6")


@contextmanager
def flushed(*arrays: Any) -> Iterator[None]:
    """Within the block this thread computes as a card does, if all these floats are single ones."""
    if not _settings.FLUSH or not _single(arrays):
        yield
        return
    before = ctypes.create_string_buffer(_SIZE)
    _libm.fegetenv(before)
    inside = ctypes.create_string_buffer(before.raw, _SIZE)
    (word,) = struct.unpack_from("<I", inside, _AT)
    struct.pack_into("<I", inside, _AT, word | _BITS)
    _libm.fesetenv(inside)
    try:
        yield
    finally:
        _libm.fesetenv(before)


def _single(arrays: tuple[Any, ...]) -> bool:
    floats = {a.dtype for a in arrays if isinstance(a, np.ndarray) and a.dtype.kind in "fc"}
    return floats == {np.dtype(np.float32)}
