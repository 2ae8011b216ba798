"""A strict stand-in for CuPy, for tests on machines without a card.

    PYTHONPATH=tests/standin pytest -m gpu tests/backend
    PYTHONPATH=tests/standin gpukit kernels check relu --mode card

With this folder's parent on the path, `import cupy` gives this package. Arrays lie in the host's
memory, NumPy computes, kernels run on gpukit's emulator, and what the real CuPy or a card would
refuse is refused: see _compute.py for operands, _order.py for streams, _launch.py for kernels. All
names and signatures are the real ones (surface.json, written by record.py). It shows nothing of how
fast a card is, and no result that the emulator does not show.

STANDIN_DEVICES cards (2) of architecture STANDIN_ARCH (90); STANDIN_PEER=0: they do not reach each
other's memory; STANDIN_FTZ=0: subnormals are kept, which CuPy's kernels do not.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from cupy import _compute, _memory, _surface, cuda, lib, random
from cupy._array import ndarray
from cupy._launch import RawKernel, RawModule

__version__ = _surface.VERSION
IS_STANDIN = True

__all__ = [
    "RawKernel",
    "RawModule",
    "array",
    "asarray",
    "ascontiguousarray",
    "copyto",
    "cuda",
    "get_default_memory_pool",
    "lib",
    "ndarray",
    "random",
]


@_surface.like("cupy.array")
def array(obj: Any, dtype: Any = None, copy: bool | None = True) -> ndarray:
    """A copy on the current card, of an array of the host or of this card."""
    if isinstance(obj, ndarray):
        return obj.astype(obj.dtype if dtype is None else dtype, copy=bool(copy))
    host = np.asarray(obj, dtype)
    if not host.dtype.isnative:
        raise ValueError(f"Unsupported byte order {host.dtype}")
    made = _compute.new(host.shape, host.dtype, np.empty_like(host).strides)
    if made.size:
        made.set(host)
    return made


@_surface.like("cupy.asarray")
def asarray(a: Any, dtype: Any = None, copy: Any = None) -> ndarray:
    if isinstance(a, ndarray) and dtype in (None, a.dtype) and not copy:
        return a
    return array(a, dtype, bool(copy))


def ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    made = asarray(a, dtype)
    return made if made.flags.c_contiguous else made.copy()


@_surface.like("cupy.copyto")
def copyto(dst: Any, src: Any, casting: str = "same_kind") -> None:
    if not isinstance(dst, ndarray):
        raise TypeError(f"copyto to {type(dst)}")
    _compute.in_place("copyto", dst, [src], lambda s: np.copyto(dst._host, s, casting=casting))  # type: ignore


def get_default_memory_pool() -> _memory.MemoryPool:
    return _memory.MemoryPool()


def __getattr__(name: str) -> Any:
    if name in _surface.UFUNCS:
        return partial(_ufunc, name)
    path = f"cupy.{name}"
    if isinstance(_surface.NAMES.get(path), str) and hasattr(np, name):
        return partial(_function, path)
    if hasattr(np, name) and path in _surface.NAMES:
        return getattr(np, name)
    raise AttributeError(str(_surface.missing(path)))


def _ufunc(name: str, /, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
    return _compute.ufunc(name, inputs, out, **kwargs)


def _function(path: str, /, *args: Any, **kwargs: Any) -> Any:
    return _compute.function(path, args, kwargs)
