"""CuPy's array on memory of the host that stands for a card's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from cupy import _compute, _memory, _surface

_IMPLICIT = (
    "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a "
    "NumPy array explicitly."
)


class Flags:
    """What CuPy's flags say; others do not exist."""

    def __init__(self, host: np.ndarray, *, owner: bool) -> None:
        self.c_contiguous = host.flags.c_contiguous
        self.f_contiguous = host.flags.f_contiguous
        self.owndata = owner
        self.fnc = host.flags.fnc
        self.forc = host.flags.forc


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of one card. What it has not itself it looks up in what the real class has."""

    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, host: np.ndarray, memory: _memory.Memory, base: Any = None) -> None:
        self._host = host
        self._memory = memory
        self._base = base

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: Flags(self._host, owner=self._base is None))
    base = property(lambda self: self._base)
    T = property(lambda self: self.transpose())

    @property
    def data(self) -> _memory.MemoryPointer:
        start = self._host.__array_interface__["data"][0] if self.size else 0
        return _memory.MemoryPointer(self._memory, start - self._memory.ptr if self.size else 0)

    @property
    def device(self) -> Any:
        from cupy.cuda import Device

        return Device(self._memory.device)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "descr": self.dtype.descr,
            "stream": 1,
            "version": 3,
            "strides": None if self._host.flags.c_contiguous else self.strides,
            "data": (self.data.ptr, False),
        }

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError(_IMPLICIT)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return _compute.from_numpy_ufunc(ufunc, method, inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return _compute.from_numpy_function(function, types, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        path = f"cupy.ndarray.{name}"
        if name.startswith("_") or not isinstance(_surface.NAMES.get(path), str):
            raise _surface.missing(path)
        if not hasattr(np.ndarray, name) or name in _compute.IN_PLACE:
            raise NotImplementedError(str(_surface.missing(path)))
        return lambda *args, **kwargs: _compute.method(self, name, args, kwargs)

    # To the host, which waits.

    @_surface.like("cupy.ndarray.get")
    def get(self, order: str = "C") -> np.ndarray:
        """A copy of the host's, of all that the stream has written."""
        _compute.wait_and_read(self)
        return np.array(self._host, order=order)  # type: ignore[call-overload]

    def item(self) -> Any:
        return self.get().item()

    def tolist(self) -> Any:
        return self.get().tolist()

    def tobytes(self, order: str = "C") -> bytes:
        return self.get().tobytes(order)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Iterator[Any]:
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    # In place.

    def fill(self, value: Any) -> None:
        if isinstance(value, (np.ndarray, ndarray)) and value.ndim:
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        host = self._host
        _compute.in_place("fill", self, [value], lambda v: host.fill(v))

    @_surface.like("cupy.ndarray.set")
    def set(self, arr: np.ndarray) -> None:
        """Copies from the host."""
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype or arr.shape != self.shape:
            raise ValueError(f"set: {arr.dtype} {arr.shape} is not {self.dtype} {self.shape}")
        host = self._host
        _compute.in_place("set", self, [], lambda: np.copyto(host, arr))

    def __getitem__(self, key: Any) -> Any:
        return _compute.run("indexing", lambda x, k: x[k], [self, key], host_indices=True)

    def __setitem__(self, key: Any, value: Any) -> None:
        host = self._host

        def put(value: Any, key: Any) -> None:
            host[key] = value

        _compute.refuse_host_arrays("assignment", value)
        _compute.in_place("assignment", self, [value, key], put, host_indices=True)

    def astype(
        self,
        dtype: Any,
        order: str = "K",
        casting: Any = None,
        subok: Any = None,
        copy: bool = True,
    ) -> ndarray:
        if casting is not None or subok is not None:
            raise TypeError("casting and subok are not supported yet")
        if not copy and self.dtype == np.dtype(dtype):
            return self
        return _compute.run("astype", lambda x: x.astype(dtype, order), [self])  # type: ignore


def _read(name: str) -> Callable[..., Any]:
    return lambda self, *args: getattr(self.get(), name)(*args)


for _name in ("float", "int", "complex", "bool", "repr", "str", "format"):
    setattr(ndarray, f"__{_name}__", _read(f"__{_name}__"))
