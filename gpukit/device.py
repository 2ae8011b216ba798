"""Devices and where arrays live: cpu, its logical twins cpu:1 …, cuda:0 …, and emu:0 ….

An array belongs to exactly one device. NumPy arrays are on `cpu` (that is `cpu:0`), CuPy arrays on
their card, and a `DeviceArray` on the twin or emulated card that it names. Twins let code for two
devices run, and be wrong in the same visible ways, on a machine that has only one. `emu` runs the
kernels of a card on the CPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from operator import attrgetter
from typing import Any

import numpy as np

from gpukit.core.config import show
from gpukit.errors import DeviceError, ShapeError

TWINS = 16  # cpu:0 … cpu:15, emu:0 … emu:15
ALIGNMENT = 256  # bytes; that of memory on a card, and on emu
UNWRITTEN = 0xFF  # every byte of new memory on emu: NaN, -1 for integers

INSTALL_CUDA = (
    "install an NVIDIA driver and `pip install 'gpukit[cuda13]'` (or cuda12 for older drivers)"
)


class Device:
    """A place for arrays; get one by name with `get_device`.

    `kind` is "cpu", "cuda" or "emu", `index` counts from 0, `name` is what users write. All memory
    of the framework is taken through `empty` and `zeros`, so that a device can account for it.
    `is_twin` says whether this is a second, third … CPU (the same implementations, DeviceArrays),
    `tags` whether arrays here are DeviceArrays over host memory.
    """

    __slots__ = ("index", "is_twin", "kind", "name", "tags")

    def __init__(self, kind: str, index: int) -> None:
        self.kind = kind
        self.index = index
        self.name = "cpu" if (kind, index) == ("cpu", 0) else f"{kind}:{index}"
        self.is_twin = kind == "cpu" and index > 0
        self.tags = kind == "emu" or self.is_twin

    def __repr__(self) -> str:
        return f"Device({self.name!r})"

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        # Devices are compared by identity: a copy of what holds one must hold the same one.
        return get_device, (self.name,)

    def wrap(self, host: np.ndarray) -> Any:
        """`host` as an array of this device, without a copy; not for cards."""
        return DeviceArray(host, self) if self.tags else host

    def empty(self, shape: Sequence[int], dtype: Any = np.float32) -> Any:
        """An uninitialised array here."""
        if self.kind == "cuda":
            with self.current():
                return self._cupy().empty(tuple(shape), dtype)
        if self.kind == "emu":
            return DeviceArray(_unwritten(shape, dtype), self)
        return self.wrap(np.empty(tuple(shape), dtype))

    def zeros(self, shape: Sequence[int], dtype: Any = np.float32) -> Any:
        """An array of zeros here."""
        if self.kind == "cuda":
            with self.current():
                return self._cupy().zeros(tuple(shape), dtype)
        if self.kind == "emu":
            host = _unwritten(shape, dtype)
            host.fill(0)
            return DeviceArray(host, self)
        return self.wrap(np.zeros(tuple(shape), dtype))

    def asarray(self, array: Any) -> Any:
        """`array`, from any device, here: a copy of its own, except where it already is."""
        if isinstance(array, ARRAY_TYPES) or hasattr(array, "__cuda_array_interface__"):
            home = device_of(array)
            if home is self:
                return array
            array = to_host(array)
            if self is CPU and home.tags:
                return array.copy()
        if self.kind == "cuda":
            with self.current():
                return self._cupy().asarray(array)
        host = np.asarray(array)
        if self.kind == "emu":
            copy = _unwritten(host.shape, host.dtype)
            np.copyto(copy, host)
            return DeviceArray(copy, self)
        return DeviceArray(host.copy(), self) if self.is_twin else host

    def current(self) -> AbstractContextManager[Any]:
        """A block in which CuPy works on this card; for other devices nothing changes."""
        return self._cupy().cuda.Device(self.index) if self.kind == "cuda" else _AS_IT_IS

    def synchronize(self) -> None:
        """Wait until all work given to this device is done."""
        if self.kind == "cuda":
            self._cupy().cuda.Device(self.index).synchronize()

    @staticmethod
    def _cupy() -> Any:
        import cupy

        return cupy


class DeviceArray(np.lib.mixins.NDArrayOperatorsMixin):
    """A NumPy array that says on which CPU twin it lives and refuses company from elsewhere.

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
                raise _mixed(self.device, value.device)
            return value.data
        if isinstance(value, np.ndarray) and value.ndim > 0:
            raise _mixed(self.device, CPU)
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


ARRAY_TYPES = (np.ndarray, DeviceArray)
_AS_IT_IS = nullcontext()
CPU = Device("cpu", 0)
_devices: dict[tuple[str, int], Device] = {("cpu", 0): CPU}


def get_device(spec: str | Device | None = None) -> Device:
    """The device called `spec` ("cpu", "cpu:1", "cuda", "cuda:0"); None gives the default one."""
    if spec is None:
        return default_device()
    if isinstance(spec, Device):
        return spec
    if not isinstance(spec, str):
        raise DeviceError(f"device {show(spec)}: use a name, as 'cpu'")
    kind, _, number = str(spec).partition(":")
    if (
        kind not in ("cpu", "cuda", "emu")
        or (number and not number.isdecimal())
        or not number.isascii()
        or spec.endswith(":")
    ):
        raise DeviceError(
            f"unknown device {show(spec)}: use cpu, cpu:1 (a logical twin), cuda, cuda:0, or emu "
            "(a card's kernels run on the CPU)"
        )
    index = int(number or 0)
    if kind in ("cpu", "emu") and index >= TWINS:
        what = {"cpu": "CPU twins", "emu": "emulated cards"}[kind]
        raise DeviceError(
            f"device {show(spec)}: there are {TWINS} {what}, {kind}:0 to {kind}:{TWINS - 1}"
        )
    if kind == "cuda":
        count = cuda_count()
        if count == 0:
            raise DeviceError(f"device {show(spec)}: {cuda_problem()}; {INSTALL_CUDA}")
        if index >= count:
            raise DeviceError(
                f"device {show(spec)}: this machine has {count}, cuda:0 to cuda:{count - 1}"
            )
    return _devices.setdefault((kind, index), Device(kind, index))


def default_device() -> Device:
    """GPUKIT_DEVICE, else the first card, else the CPU; emu only where someone names it."""
    chosen = os.environ.get("GPUKIT_DEVICE")
    if chosen:
        return get_device(chosen)
    return get_device("cuda:0") if cuda_count() else CPU


def device_of(*arrays: Any) -> Device:
    """The one device on which all `arrays` live; two different ones are an error."""
    found: Device | None = None
    for array in arrays:
        home = homes.get(type(array), _learn_home)
        here = home if type(home) is Device else home(array)  # type: ignore[operator]
        if found is None:
            found = here
        elif here is not found:
            raise _mixed(found, here)
    return found or CPU


def to_host(array: Any) -> np.ndarray:
    """`array` as a NumPy array: itself on cpu, the data of a twin or emu, a copy from a card."""
    if isinstance(array, np.ndarray):
        return array
    if isinstance(array, DeviceArray):
        return array.data
    if hasattr(array, "__cuda_array_interface__"):
        return array.get()
    try:
        return np.asarray(array)
    except (TypeError, ValueError) as error:
        raise ShapeError(f"{show(array)} is no array: {error}") from None


def _unwritten(shape: Sequence[int], dtype: Any) -> np.ndarray:
    # Aligned like a card's memory, and full of UNWRITTEN, so that what a kernel leaves out shows.
    kind = np.dtype(dtype)
    size = int(np.prod(tuple(shape), dtype=np.int64)) * kind.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    skip = -memory.ctypes.data % ALIGNMENT
    memory = memory[skip : skip + size]
    memory.fill(UNWRITTEN)
    return memory.view(kind).reshape(tuple(shape))


def _learn_home(array: Any) -> Device:
    """Where an array of a class not met before lives, which is remembered for its class."""
    kind = type(array)
    if isinstance(array, np.ndarray):
        homes[kind] = CPU
        return CPU
    if isinstance(array, np.generic):  # a number, of which other devices may have theirs beside it
        return CPU
    if hasattr(array, "__cuda_array_interface__"):
        here = _card_of(array)
        homes[kind] = _card_of
        return here
    raise DeviceError(f"{kind.__name__} is not an array of any device; pass NumPy or CuPy arrays")


def _card_of(array: Any) -> Device:
    index = array.device.id
    found = _cards.get(index)
    if found is None:
        found = _cards[index] = _devices.setdefault(("cuda", index), Device("cuda", index))
    return found


_PLAIN = {slice, int, float, bool, str, type(None), type(Ellipsis)}

# By class of arrays that were met: the device of them all, or what finds that of one.
homes: dict[type, Device | Callable[[Any], Device]] = {
    np.ndarray: CPU,
    DeviceArray: attrgetter("device"),
}
_cards: dict[int, Device] = {}


def _mixed(a: Device, b: Device) -> DeviceError:
    return DeviceError(
        f"arrays on {a} and {b} in one call; move one with gpukit.ops.to_device(array, {a.name!r})"
    )


@lru_cache(maxsize=1)
def _probe_cuda() -> tuple[int, str]:
    # Looking for a card is the one moment at which CuPy is imported unasked.
    try:
        import cupy
    except ImportError:
        return 0, "CuPy is not installed"
    try:
        if cupy.cuda.is_available():
            return int(cupy.cuda.runtime.getDeviceCount()), ""
        return 0, "CuPy found no NVIDIA GPU or driver"
    except Exception as error:
        return 0, f"the CUDA driver does not answer ({error})"


def cuda_count() -> int:
    """Number of CUDA cards that CuPy can use on this machine."""
    return _probe_cuda()[0]


def cuda_problem() -> str:
    """Why there is no CUDA card, in words; empty where there is one."""
    return _probe_cuda()[1]
