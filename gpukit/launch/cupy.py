"""The engine of kind "cuda": sources compiled by CuPy's RawModule, launched on CuPy's stream.

Nothing is compiled before a kernel's first launch; CuPy keeps the result on disk, keyed on the text
with its headers. GPUKIT_SYNC=1 waits after each launch, so that an error names its kernel; it is
read once, before the first launch.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpukit.errors import GpukitError
from gpukit.launch.engine import Bound, Call
from gpukit.launch.limits import FREE_SHARED, too_many_threads, too_much_shared
from gpukit.launch.options import OURS
from gpukit.launch.wheels import INSTALL_KERNELS

_NULL = np.int64(0)


@dataclass(frozen=True)
class _Loaded:
    """A kernel on a card: CuPy's function, and the driver's limits of its blocks."""

    function: Any
    threads: int  # most of a block
    static: int  # bytes of shared memory
    most: int  # of static and dynamic shared memory, on this card


class CupyEngine:
    """Runs kernels on cards. Made at the first launch, so that importing this needs no CuPy."""

    def __init__(self) -> None:
        import cupy

        self._cupy = cupy
        self._current = cupy.cuda.runtime.getDevice
        self._failures = (cupy.cuda.driver.CUDADriverError, cupy.cuda.runtime.CUDARuntimeError)
        self._waits = os.environ.get("GPUKIT_SYNC", "") not in ("", "0")
        self._functions: dict[tuple[Bound, int], _Loaded] = {}
        self._arch: dict[int, int] = {}

    def launch(self, call: Call) -> None:
        """Put the kernel on the current stream of its device.

        Raises GpukitError with the compiler's whole log, for a card that is too old, for a block
        that is too large for kernel or card, for a launch that the driver refuses and, under
        GPUKIT_SYNC=1, for what goes wrong while it runs.
        """
        index = call.device.index
        if self._current() == index:
            self._launch(call, index)
        else:
            with self._cupy.cuda.Device(index):
                self._launch(call, index)

    def _launch(self, call: Call, index: int) -> None:
        """`launch`, where the card `index` is the current one."""
        loaded = self._functions.get((call.bound, index))
        if loaded is None:
            loaded = self._load(call.bound, index)
        refused = too_many_threads(call.block, loaded.threads) or too_much_shared(
            loaded.static, call.shared, loaded.most, f"cuda:{index}"
        )
        if refused:
            raise GpukitError(f"{call.bound.title}: {refused}")
        function = loaded.function
        # CuPy passes NumPy scalars with their own size, arrays by address, null pointers as int64.
        arguments = tuple([_NULL if a is None else a for a in call.arguments])
        try:
            if call.shared and loaded.static + call.shared > FREE_SHARED:
                function.max_dynamic_shared_size_bytes = call.shared
            function(call.grid, call.block, arguments, shared_mem=call.shared)
            if self._waits:
                self._cupy.cuda.get_current_stream().synchronize()
        except self._failures as error:
            raise GpukitError(_failure(call, error)) from error

    def _load(self, bound: Bound, index: int) -> _Loaded:
        arch = self._arch.get(index)
        if arch is None:
            arch = self._arch[index] = int(self._cupy.cuda.Device(index).compute_capability)
        if arch < bound.instance.arch:
            raise GpukitError(
                f"kernel {bound.expression} ({bound.declaration.place}) needs sm_"
                f"{bound.instance.arch}, cuda:{index} is sm_{arch}; choose another algo"
            )
        module = self._cupy.RawModule(
            code=bound.source.text, options=OURS, name_expressions=(bound.expression,)
        )
        try:
            function = module.get_function(bound.expression)
        except self._cupy.cuda.compiler.CompileException as error:
            raise GpukitError(
                f"kernel {bound.expression} does not compile for sm_{arch}:\n{_log(error)}"
            ) from error
        except FileNotFoundError as error:
            raise GpukitError(f"CuPy misses a CUDA header ({error}): {INSTALL_KERNELS}") from error
        card = self._cupy.cuda.Device(index).attributes
        loaded = self._functions[bound, index] = _Loaded(
            function,
            function.max_threads_per_block,
            function.shared_size_bytes,
            card["MaxSharedMemoryPerBlockOptin"],
        )
        return loaded


def _failure(call: Call, error: Exception) -> str:
    # Shapes only: after an asynchronous error no value can be copied from the card any more.
    shapes = ", ".join(
        f"{p.name} {tuple(a.shape)} {a.dtype}"
        if p.is_pointer and a is not None
        else f"{p.name}={a}"
        for p, a in zip(call.bound.parameters, call.arguments)
    )
    return (
        f"kernel {call.bound.expression} ({call.bound.declaration.place}) on {call.device}, grid "
        f"{call.grid}, block {call.block}, shared {call.shared}: {error}; arguments: {shapes}"
    )


def _log(error: Any) -> str:
    get = getattr(error, "get_message", None)
    return str(get() if get else error)
