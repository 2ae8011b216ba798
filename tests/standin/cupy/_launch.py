"""CuPy's RawModule and RawKernel: kernels compiled and run by gpukit's emulator.

Arguments go by CuPy's rule: arrays by address, NumPy scalars with their own size, whatever the
kernel takes. Where a card would read other bytes than were meant, that is an error here: Python
scalars are refused for what is not of 8 bytes, and so are arrays of other elements.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy as np

from cupy import _order, _settings, _state, _surface
from cupy._array import ndarray
from cupy._errors import CompileException, CUDADriverError

STANDARDS = ("-std=c++11", "-std=c++14", "-std=c++17", "-std=c++20")
FREE_SHARED = 48 << 10  # bytes a block, static ones included, without asking
GRID = (2**31 - 1, 65535, 65535)
BLOCK = (1024, 1024, 64)
MOST_THREADS = 1024
# Bytes of shared memory a block can ask for, by architecture: CUDA's programming guide.
_MOST_SHARED = {75: 64, 80: 163, 86: 99, 87: 163, 89: 99, 90: 227, 100: 227, 103: 227}


def most_shared() -> int:
    """Bytes a block may have on this architecture, static ones included."""
    return _MOST_SHARED.get(_settings.ARCH, 99) << 10


class RawModule:
    """A source, and its kernels by name expressions."""

    @_surface.like("cupy.RawModule")
    def __init__(
        self, code: Any = None, options: tuple[str, ...] = (), name_expressions: Any = None
    ) -> None:
        if not isinstance(code, str):
            raise TypeError(f"code must be a str, got {type(code)}")
        _check_options(options)
        self.code = code
        self.options = options
        self.name_expressions = None if name_expressions is None else tuple(name_expressions)

    def get_function(self, name: str) -> RawKernel:
        names = self.name_expressions
        if names is None and "<" in name:
            raise CUDADriverError(500)
        if names is not None and name not in names:
            raise CUDADriverError(500)
        return RawKernel(self.code, name, self.options)


class RawKernel:
    """A kernel; compiled where it is first needed."""

    @_surface.like("cupy.RawKernel")
    def __init__(self, code: str, name: str, options: tuple[str, ...] = ()) -> None:
        _check_options(options)
        self.code = code
        self.name = name
        self.options = options
        self._asked: dict[int, int] = {}  # bytes of dynamic shared memory, by card

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        return self._asked.get(_state.device(), FREE_SHARED - self.shared_size_bytes)

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, size: int) -> None:
        if not 0 <= size <= most_shared() - self.shared_size_bytes:
            raise CUDADriverError(1)
        self._asked[_state.device()] = size

    @property
    def shared_size_bytes(self) -> int:
        """Static shared memory."""
        return _static_shared(self.code, self.name)

    @property
    def max_threads_per_block(self) -> int:
        return MOST_THREADS

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], args: Any, *, shared_mem: int = 0
    ) -> None:
        from gpukit.device import get_device
        from gpukit.launch.engine import Call

        if type(grid) is not tuple or type(block) is not tuple:
            raise TypeError(f"grid and block must be tuples, got {grid!r} and {block!r}")
        sizes = [(*v, 1, 1)[:3] for v in (grid, block)]
        for value, most in zip(sizes, (GRID, BLOCK)):
            if any(type(n) is not int for n in value):
                raise TypeError(f"grid and block must be of int, got {grid!r} and {block!r}")
            if any(not 1 <= n <= m for n, m in zip(value, most)):
                raise CUDADriverError(1)
        if int(np.prod(sizes[1])) > MOST_THREADS:
            raise CUDADriverError(1)
        self._check_shared(shared_mem)
        bound = _bound(self.code, self.name, self.options)
        if len(args) != len(bound.parameters):
            raise TypeError(f"{self.name} has {len(bound.parameters)} parameters, got {len(args)}")
        values = tuple(
            _argument(self.name, p, dtype, a)
            for p, dtype, a in zip(bound.parameters, bound.dtypes, args)
        )
        self._order(bound, args)
        _emulator().launch(Call(bound, get_device("emu"), *sizes, values, shared_mem))

    def _check_shared(self, dynamic: int) -> None:
        # No look at the static part, which takes a compiler, where it cannot matter.
        if not dynamic:
            return
        static = self.shared_size_bytes
        if static + dynamic > FREE_SHARED and dynamic > self._asked.get(_state.device(), 0):
            raise CUDADriverError(1)

    def _order(self, bound: Any, args: Any) -> None:
        device, line = _state.device(), _state.line()
        arrays = [(p, a) for p, a in zip(bound.parameters, args) if isinstance(a, ndarray)]
        for p, a in arrays:
            if a._memory.device != device:
                raise ValueError(
                    f"{self.name}: {p.name} is an array of card {a._memory.device}, the current "
                    f"card is {device}"
                )
        _order.work(line)
        for p, a in arrays:
            a._memory.uses.use(line, f"{self.name}, {p.name}", write=not p.is_const)


def _check_options(options: Any) -> None:
    if not isinstance(options, tuple) or not all(isinstance(o, str) for o in options):
        raise TypeError(f"options must be a tuple of str, got {options!r}")
    for option in options:
        if option.startswith("-arch") or option.startswith("--gpu-architecture"):
            raise ValueError(f"{option}: CuPy gives the architecture itself")
        if option.startswith("-std") and option not in STANDARDS:
            raise ValueError(f"NVRTC knows no {option}")


def _argument(kernel: str, parameter: Any, dtype: np.dtype, value: Any) -> Any:
    """What the emulator is given for an argument of CuPy's."""
    from gpukit.device import DeviceArray, get_device

    where = f"{kernel}: parameter {parameter.name}"
    if parameter.is_pointer:
        if isinstance(value, ndarray):
            if value.dtype.itemsize != dtype.itemsize:
                raise TypeError(f"{where} points to {dtype}, the array is of {value.dtype}")
            return DeviceArray(value._host, get_device("emu"))
        if value is None or (isinstance(value, np.int64) and value == 0):
            return None
        raise TypeError(f"{where} is a pointer, got {type(value).__name__}")
    if isinstance(value, np.ndarray):
        if value.size != 1:
            raise TypeError(
                f"{where}: numpy.ndarrays go by value, if of size one; it has shape {value.shape}"
            )
        if value.dtype != dtype:
            raise TypeError(f"{where} is a {dtype}; CuPy would pass the bytes of a {value.dtype}")
        return value.reshape(())
    if isinstance(value, np.generic) and value.dtype.kind != "V":
        given = value.dtype
    elif type(value) in (bool, int, float):
        given = np.dtype({bool: np.bool_, int: np.int64, float: np.float64}[type(value)])
    else:
        raise TypeError(f"{where} is a scalar, got {type(value).__name__}")
    if given.itemsize != dtype.itemsize or (given.kind == "f") != (dtype.kind == "f"):
        raise TypeError(f"{where} is a {dtype}; CuPy would pass the bytes of a {given}")
    return dtype.type(value)


@cache
def _emulator() -> Any:
    from gpukit.emulator.run import Emulator

    return Emulator(flush=_settings.FLUSH)


@cache
def _bound(code: str, name: str, options: tuple[str, ...]) -> Any:
    """The instance of a kernel that a name expression names in a source."""
    from gpukit.emulator.build import kernel_library
    from gpukit.errors import GpukitError
    from gpukit.launch.engine import Bound
    from gpukit.launch.kernel import DTYPES, struct_dtype
    from gpukit.launch.sources import Instance, Source, split

    first = re.match(r'#line 1 "([^"]*)"', code)
    source = Source(first[1] if first else "kernel.cu", code)
    kernel, _, rest = name.partition("<")
    try:
        declaration = source.kernels[kernel]
        given = tuple(split(rest.rstrip()[:-1])) if rest else ()
        named = dict(zip((t.name for t in declaration.template), given, strict=True))
        types = [named.get(p.type, p.type) for p in declaration.parameters]
        dtypes = tuple(DTYPES[t] if t in DTYPES else struct_dtype(source, t) for t in types)
        if any(dtype is None for dtype in dtypes):
            raise GpukitError(f"{kernel} takes {types}, not all of which are known")
        found = Bound(source, declaration, Instance(kernel, given), dtypes)
        kernel_library(found, _emulator().mode)
    except (GpukitError, KeyError, ValueError) as error:
        raise CompileException(str(error), code, name, options) from error
    return found


@cache
def _static_shared(code: str, name: str) -> int:
    from gpukit.launch.nvrtc import compile_text

    return compile_text(code, [name], _settings.ARCH).resources[name].shared
