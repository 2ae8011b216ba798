"""Launches on the device kind "emu": libraries loaded once, arguments passed by address.

GPUKIT_EMU_SEED (default 1) shuffles the order of blocks and threads; 0 runs them in order. A launch
that takes more than GPUKIT_EMU_LIMIT seconds (default 600, 0 for no limit) is terminated.
GPUKIT_EMU_CHECK=1 puts canaries around the arrays of every launch. GPUKIT_EMU_FTZ=1 flushes float32
subnormals to zero, as in kernels that CuPy compiles. GPUKIT_EMU_BUILD chooses the build: plain,
asan, tsan or trace. asan and tsan need the sanitizer's library loaded before Python, see check.py;
in trace, threads run in order and memory accesses are counted, see trace.py.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from gpukit.core import settings
from gpukit.device import DeviceArray
from gpukit.emulator.build import MODES, kernel_library, runtime_library
from gpukit.emulator.guard import Guarded
from gpukit.emulator.trace import Access, collect, watch
from gpukit.errors import GpukitError, SettingError
from gpukit.launch.engine import Bound, Call
from gpukit.launch.limits import MOST_SHARED, too_many_threads, too_much_shared

LIMIT = 600  # seconds


class KernelFault(GpukitError, RuntimeError):
    """A kernel broke a rule: where, in which block and thread, and which rule."""


@dataclass(frozen=True)
class Launched:
    """A launch of the build "trace": what ran, with how many bytes of extern shared memory."""

    bound: Bound
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int
    accesses: list[Access]


class _Request(ctypes.Structure):
    _fields_ = (
        ("kernel", ctypes.c_char_p),
        ("body", ctypes.c_void_p),
        ("arguments", ctypes.c_void_p),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("dynamic_shared", ctypes.c_size_t),
        ("seed", ctypes.c_uint64),
        ("limit", ctypes.c_double),
        ("first_block", ctypes.c_uint64),
        ("blocks", ctypes.c_uint64),
        ("threads", ctypes.c_int),
        ("flush", ctypes.c_int),
        ("message", ctypes.c_char_p),
        ("message_size", ctypes.c_size_t),
        ("static_shared", ctypes.c_size_t),
    )


class Emulator:
    """The engine of kind "emu"."""

    def __init__(self, mode: str | None = None, *, flush: bool = False) -> None:
        self.mode = mode or os.environ.get("GPUKIT_EMU_BUILD") or "plain"
        if self.mode not in MODES:
            raise SettingError(f"GPUKIT_EMU_BUILD={self.mode!r}: use {', '.join(MODES)}")
        self._flush = flush or os.environ.get("GPUKIT_EMU_FTZ", "") not in ("", "0")
        self._runtime = _load_library(runtime_library(self.mode), ctypes.RTLD_GLOBAL)
        self._launch = self._runtime.gpukit_launch
        self._launch.argtypes = [ctypes.POINTER(_Request)]
        self._body = lru_cache(maxsize=None)(self._load)
        self._message = ctypes.create_string_buffer(2048)
        self.launches: list[Launched] = []  # of the build "trace"
        # Bytes a block, by file and instance, as far as it ran.
        self._static: dict[tuple[str, str], int] = {}
        # By file and name of a kernel, the launch with most shared memory: static, dynamic bytes.
        self.asked: dict[tuple[str, str], tuple[Bound, int, int]] = {}

    def launch(self, call: Call) -> None:
        """Run the kernel to its end. Raises KernelFault with what the kernel did wrong.

        GpukitError for a block that the kernel is not built for or that no card has room for.
        """
        bound = call.bound
        body, threads = self._body(bound)
        key = bound.source.file, bound.expression
        static = self._static.get(key, 0)
        refused = too_many_threads(call.block, threads) or _too_much_shared(static, call.shared)
        if refused:
            raise GpukitError(f"kernel {bound.expression} ({bound.declaration.place}): {refused}")
        arrays = [a.data for a in call.arguments if isinstance(a, DeviceArray)]
        watched = self.mode != "plain" or checking()
        guarded = Guarded(arrays, exact=self.mode == "asan") if watched else None
        count = len(call.arguments)
        pointers = (ctypes.c_void_p * max(count, 1))()
        values: list[Any] = []
        for i, argument in enumerate(call.arguments):
            if argument is None:
                values.append(ctypes.c_void_p(None))
            elif isinstance(argument, (np.generic, np.ndarray)):
                values.append(np.asarray(argument))
                pointers[i] = values[-1].ctypes.data
                continue
            else:
                data = argument.data
                values.append(
                    ctypes.c_void_p(guarded.address(data) if guarded else data.ctypes.data)
                )
            pointers[i] = ctypes.addressof(values[-1])
        request = _Request(
            bound.expression.encode(),
            body,
            ctypes.addressof(pointers),
            call.grid,
            call.block,
            call.shared,
            0 if self.mode == "trace" else seed(),
            limit(),
            *_chosen(call.grid[0] * call.grid[1] * call.grid[2]),
            settings.threads(),
            self._flush and not _has_doubles(bound),
            ctypes.cast(self._message, ctypes.c_char_p),
            len(self._message),
        )
        if guarded and self.mode == "trace":
            watch(self._runtime, [(guarded.address(a), a.nbytes) for a in arrays])
        failed = self._launch(ctypes.byref(request))
        if failed:
            raise KernelFault(f"kernel {self._message.value.decode(errors='replace')}")
        static = self._static[key] = max(request.static_shared, static)
        name = bound.source.file, bound.declaration.name
        if name not in self.asked or static + call.shared > sum(self.asked[name][1:]):
            self.asked[name] = bound, static, call.shared
        refused = _too_much_shared(static, call.shared)
        if refused:
            raise GpukitError(f"kernel {bound.expression} ({bound.declaration.place}): {refused}")
        if self.mode == "trace":
            self._trace(call)
        if guarded:
            problem = guarded.finish()
            if problem is not None:
                array, text = problem
                names = [
                    p.name
                    for p, a in zip(bound.parameters, call.arguments)
                    if isinstance(a, DeviceArray) and a.data is arrays[array]
                ]
                raise KernelFault(
                    f"kernel {bound.expression} ({bound.declaration.place}) {text} {names[0]}"
                )

    def _trace(self, call: Call) -> None:
        bound = call.bound
        library = kernel_library(bound, self.mode)
        names = [
            p.name for p, a in zip(bound.parameters, call.arguments) if isinstance(a, DeviceArray)
        ]
        accesses = collect(self._runtime, library, bound.expression, names)
        self.launches.append(Launched(bound, call.grid, call.block, call.shared, accesses))

    def _load(self, bound: Bound) -> tuple[int, int]:
        """Where its code is, and the most threads of a block."""
        library = _load_library(kernel_library(bound, self.mode))
        library.gpukit_signature.restype = ctypes.c_char_p
        truth = library.gpukit_signature().decode().split()
        ours = [
            _code(dtype, p.is_pointer, p.is_const)
            for dtype, p in zip(bound.dtypes, bound.parameters)
        ]
        if truth != ours:
            raise GpukitError(
                f"kernel {bound.expression} ({bound.declaration.place}) has the parameters "
                f"{' '.join(truth)}, its declaration was read as {' '.join(ours)}"
            )
        code = ctypes.cast(library.gpukit_run, ctypes.c_void_p).value or 0
        return code, int(library.gpukit_most_threads())


def _load_library(path: Path, mode: int = ctypes.DEFAULT_MODE) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path), mode=mode)
    except OSError as error:  # its bytes are right: such as a file system that runs no programs
        raise GpukitError(
            f"the kernel compiled for emu cannot be loaded ({error}); set GPUKIT_CACHE to a folder "
            "from which programs can run"
        ) from None


@contextmanager
def some_blocks(first: int | None, count: int) -> Iterator[None]:
    """Within the block, launches run `count` blocks of their grids from `first` on, and no others.

    A negative `first` counts from the end, None stands for the middle. For grids too large to run
    whole: the indices of the last blocks are what overflows.
    """
    global _some
    before, _some = _some, (first, count)
    try:
        yield
    finally:
        _some = before


_some: tuple[int | None, int] | None = None


def _chosen(blocks: int) -> tuple[int, int]:
    """The first block that runs and how many do, of `blocks`."""
    if _some is None:
        return 0, blocks
    first, count = _some
    if first is None:
        first = max(blocks - count, 0) // 2
    first = max(first + blocks, 0) if first < 0 else min(first, blocks)
    return first, min(count, blocks - first)


def seed() -> int:
    """The seed of the order of blocks and threads."""
    text = os.environ.get("GPUKIT_EMU_SEED") or "1"
    if not text.isdecimal():
        raise SettingError(f"GPUKIT_EMU_SEED={text!r}: use a whole number, 0 for no shuffling")
    return int(text) % 2**64


def limit() -> float:
    """Seconds that a launch may take; 0 is no limit."""
    text = os.environ.get("GPUKIT_EMU_LIMIT") or str(LIMIT)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise SettingError(f"GPUKIT_EMU_LIMIT={text!r}: use seconds, 0 for no limit")
    return seconds


def checking() -> bool:
    """Whether arrays get canaries."""
    return os.environ.get("GPUKIT_EMU_CHECK", "") not in ("", "0")


def _too_much_shared(static: int, dynamic: int) -> str:
    return too_much_shared(static, dynamic, max(MOST_SHARED.values()), "the largest card")


def _has_doubles(bound: Bound) -> bool:
    # -ftz=true is about single precision; the CPU's switch is about both.
    return np.dtype(np.float64) in bound.dtypes or "double" in bound.instance.arguments


def _code(dtype: np.dtype, is_pointer: bool, is_const: bool) -> str:
    if dtype.kind == "f":
        letter = {2: "s2", 4: "f", 8: "d"}[dtype.itemsize]
    elif dtype.kind == "b":
        letter = "b"
    elif dtype.kind == "V":
        letter = f"s{dtype.itemsize}"
    else:
        letter = f"{dtype.kind}{dtype.itemsize}"
    return ("PK" if is_const else "P") * is_pointer + letter
