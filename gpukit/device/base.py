"""What all devices have in common, and arrays of twins and emulated cards in host memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from operator import attrgetter
from typing import Any, ClassVar

import numpy as np

from gpukit.errors import DeviceError

_AS_IT_IS = nullcontext()


class Device:
    """A place for arrays; get one by name with `get_device`.

    `kind` is "cpu", "cuda" or "emu", `index` counts from 0, `name` is what users write. All memory
    of the framework is taken through `empty` and `zeros`, so that a device can account for it.
    `backend` is the kind for which implementations that run here are registered. Devices are
    compared by identity: `at` gives the one of an index.
    """

    __slots__ = ("index", "name")

    kind: ClassVar[str]
    backend: ClassVar[str]
    runs_kernels: ClassVar[bool] = False  # whether CUDA C can be launched here
    in_host_memory: ClassVar[bool] = True
    _made: ClassVar[dict[int, Device]]

    def __init_subclass__(cls) -> None:
        cls._made = {}

    def __init__(self, index: int) -> None:
        self.index = index
        self.name = f"{self.kind}:{index}"

    @classmethod
    def at(cls, index: int) -> Device:
        """The device of this class with an index."""
        return cls._made.get(index) or cls._made.setdefault(index, cls(index))

    def __repr__(self) -> str:
        return f"Device({self.name!r})"

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).at, (self.index,)  # a copy of what holds a device holds the same one

    def wrap(self, host: np.ndarray) -> Any:
        """`host` as an array of this device, without a copy; not for cards."""
        raise NotImplementedError

    def empty(self, shape: Sequence[int], dtype: Any = np.float32) -> Any:
        """An uninitialised array here."""
        return self.wrap(np.empty(tuple(shape), dtype))

    def zeros(self, shape: Sequence[int], dtype: Any = np.float32) -> Any:
        """An array of zeros here."""
        return self.wrap(np.zeros(tuple(shape), dtype))

    def asarray(self, array: Any) -> Any:
        """`array`, from any device, here: a copy of its own, except where it already is."""
        raise NotImplementedError

    def receive(self, array: Any) -> Any:
        """`asarray`; between two cards it returns before the copy is there."""
        return self.asarray(array)

    def operands(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments of a call on this device as implementations take them."""
        return args

    def run(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
        """The results of an implementation, as arrays of this device."""
        result = function(*args, **kwargs)
        # NumPy's functions make scalars of results of shape (); arrays in means arrays out.
        return np.asarray(result) if isinstance(result, np.generic) else result

    def current(self) -> AbstractContextManager[Any]:
        """A block in which CuPy works on this card; for other devices nothing changes."""
        return _AS_IT_IS

    def synchronize(self) -> None:
        """Wait until all work given to this device is done."""


class DeviceArray(np.lib.mixins.NDArrayOperatorsMixin):
    """A NumPy array on the twin or emulated card that it names; it refuses those of others.

    NumPy functions and operators work on it and give DeviceArrays back. It is not a subclass of
    ndarray, because concatenate, where, pad and others would drop the tag of a subclass and mix
    devices silently.
    """

    __slots__ = ("data", "device")

    def __init__(self, data: np.ndarray, device: Device) -> None:
        self.data = data
        self.device = device

    shape = property(attrgetter("data.shape"))
    dtype = property(attrgetter("data.dtype"))
    ndim = property(attrgetter("data.ndim"))
    size = property(attrgetter("data.size"))
    nbytes = property(attrgetter("data.nbytes"))
    strides = property(attrgetter("data.strides"))
    flags = property(attrgetter("data.flags"))
    T = property(lambda self: self.device.wrap(self.data.T))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if "out" in kwargs:
            kwargs["out"] = tuple(self._unwrap(o) for o in kwargs["out"])
        result = getattr(ufunc, method)(
            *(self._unwrap(i) for i in inputs),
            **{k: v if k == "out" else self._unwrap(v) for k, v in kwargs.items()},
        )
        return self._wrap(result)

    def __array_function__(
        self, function: Callable[..., Any], types: Any, args: Any, kwargs: Any
    ) -> Any:
        return self._wrap(function(*self._unwrap(tuple(args)), **self._unwrap(dict(kwargs))))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise DeviceError(
            f"an array on {self.device} was used as a NumPy array; copy it to the host with "
            "gpukit.to_host(array) first"
        )

    def __getitem__(self, key: Any) -> Any:
        return self._wrap(self.data[self._unwrap(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self.data[self._unwrap(key)] = self._unwrap(value)

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        return f"DeviceArray({self.data!r}, device={self.device.name!r})"

    def __float__(self) -> float:
        return float(self.data)

    def __int__(self) -> int:
        return int(self.data)

    def __bool__(self) -> bool:
        return bool(self.data)

    def reshape(self, *shape: Any) -> DeviceArray:
        return DeviceArray(self.data.reshape(*shape), self.device)

    def __getattr__(self, name: str) -> Any:
        # Methods of ndarray (sum, reshape, astype, copy …) act on the data and are tagged again.
        if name.startswith("__"):
            raise AttributeError(name)
        attribute = getattr(self.data, name)
        if not callable(attribute):
            return attribute
        return lambda *args, **kwargs: self._wrap(
            attribute(*self._unwrap(args), **self._unwrap(kwargs))
        )

    def _unwrap(self, value: Any) -> Any:
        if type(value) in _PLAIN:
            return value
        if isinstance(value, DeviceArray):
            if value.device is not self.device:
                raise mixed(self.device, value.device)
            return value.data
        if isinstance(value, np.ndarray) and value.ndim > 0:
            raise mixed(self.device, "cpu")
        if isinstance(value, (tuple, list)):
            return type(value)(self._unwrap(v) for v in value)
        if isinstance(value, dict):
            return {k: self._unwrap(v) for k, v in value.items()}
        return value

    def _wrap(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return DeviceArray(value, self.device)
        if isinstance(value, (tuple, list)):
            return type(value)(self._wrap(v) for v in value)
        if isinstance(value, np.generic):
            return DeviceArray(np.asarray(value), self.device)
        return value


_PLAIN = {slice, int, float, bool, str, type(None), type(Ellipsis)}


def on_host(array: Any) -> Any:
    """The data of an array of any device as a NumPy array; what is no array as it is."""
    if isinstance(array, DeviceArray):
        return array.data
    return array.get() if hasattr(array, "__cuda_array_interface__") else array


def mixed(a: Device, b: Device | str) -> DeviceError:
    """The error of one call with arrays of two devices."""
    return DeviceError(
        f"arrays on {a} and {b} in one call; move one with gpukit.ops.to_device(array, {a.name!r})"
    )
