"""Finding Numba kernels by name, and launching them on CuPy's arrays and stream.

Numba CUDA is imported at the first launch. In a process with NUMBA_ENABLE_CUDASIM=1 the same
launchers run Numba's simulator: they are given NumPy arrays then, which pass through unchanged.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import warnings
from functools import cache, cached_property
from typing import Any

import numpy as np

from gpukit.device import device_of
from gpukit.errors import GpukitError

Array = Any

INSTALL_NUMBA = "pip install 'gpukit[numba]'"
MOST = 2**31 - 2**16  # elements of an array: kernels divide in 32 bits, a block more included
FLOATS = ("float32", "float64")


@cache
def problem() -> str:
    """Why there are no Numba kernels here; empty where there are, in the simulator at least."""
    if importlib.util.find_spec("numba_cuda") is None:
        return f"the package numba-cuda is not installed: {INSTALL_NUMBA}"
    return ""


@cache
def compiler_problem() -> str:
    """Why Numba kernels cannot be compiled here; empty if they can.

    numba-cuda compiles with NVIDIA's libnvvm, of its wheel or of $CUDA_HOME, which may be absent.
    """
    if problem():
        return problem()
    if os.environ.get("NUMBA_ENABLE_CUDASIM", "") not in ("", "0"):
        return "NUMBA_ENABLE_CUDASIM=1 takes Numba's simulator for the card"
    from numba.cuda.cudadrv import nvvm

    try:
        nvvm.NVVM()
    except Exception as error:
        return f"Numba finds no libnvvm ({_first_line(error)}): {INSTALL_NUMBA}, or set CUDA_HOME"
    return ""


@cache
def card_problem() -> str:
    """Why Numba kernels cannot be launched on a card here; empty if they can."""
    if compiler_problem():
        return compiler_problem()
    from numba import cuda

    absent = cuda.cuda_error()
    return f"Numba finds no CUDA driver: {_first_line(absent)}" if absent else ""


def _first_line(error: Any) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class NumbaKernel:
    """The kernel `name` of kernels/`file`.py, compiled by Numba at its first launch."""

    def __init__(self, file: str, name: str) -> None:
        self.file = file
        self.name = name

    def __repr__(self) -> str:
        return f"NumbaKernel({self.file!r}, {self.name!r})"

    @property
    def path(self) -> str:
        """Its file's name in the package gpukit.kernels."""
        return f"{self.file}.py"

    @cached_property
    def function(self) -> Any:
        """The compiled dispatcher. Raises GpukitError without numba-cuda."""
        if problem():
            raise GpukitError(f"kernels/{self.path}: {problem()}")
        module = importlib.import_module(f"gpukit.kernels.{self.file.replace('/', '.')}")
        return getattr(module, self.name)

    @cached_property
    def parameters(self) -> tuple[tuple[str, Any], ...]:
        """(name, annotation) of each parameter, see kernels/typed.py."""
        signature = inspect.signature(self.function.py_func)
        return tuple((p.name, p.annotation) for p in signature.parameters.values())

    def launch(self, grid: Any, block: Any, *arguments: Any) -> None:
        """Put it on CuPy's current stream of the arrays' device; GPUKIT_SYNC=1 waits for it.

        Arrays must be what the annotations say and share one float type (TypeError otherwise: a
        launcher's fault); integers are passed as int32. What the driver refuses, and under
        GPUKIT_SYNC=1 what goes wrong while it runs, is a GpukitError that names the kernel.
        """
        if len(arguments) != len(self.parameters):
            count = len(self.parameters)
            raise TypeError(f"{self.name} takes {count} arguments, {len(arguments)} given")
        values = [
            self._checked(name, wanted, value)
            for (name, wanted), value in zip(self.parameters, arguments)
        ]
        arrays = [a for a in values if hasattr(a, "dtype") and a.ndim]
        floats = {a.dtype for a in arrays if a.dtype.kind == "f"}
        if len(floats) > 1:
            raise TypeError(f"{self.name}: arrays of {floats} in one launch")
        device = device_of(*arrays)
        if device.in_host_memory:
            self.function[grid, block](*values)
            return
        import cupy
        from numba import cuda
        from numba.cuda.cudadrv.driver import CudaAPIError

        quieten()
        with cupy.cuda.Device(device.index), cuda.gpus[device.index]:
            pointer = cupy.cuda.get_current_stream().ptr
            stream = cuda.external_stream(pointer) if pointer else 0
            # Not sync: that would wait for CuPy's stream, on which this is launched anyway.
            on_card = [
                cuda.as_cuda_array(v, sync=False) if hasattr(v, "__cuda_array_interface__") else v
                for v in values
            ]
            try:
                self.function[grid, block, stream](*on_card)
                if os.environ.get("GPUKIT_SYNC", "") not in ("", "0"):
                    cupy.cuda.get_current_stream().synchronize()
            except (CudaAPIError, cupy.cuda.runtime.CUDARuntimeError) as error:
                shapes = ", ".join(str(a.shape) for a in arrays)
                raise GpukitError(
                    f"kernels/{self.path}, {self.name} with arrays {shapes}, grid {grid}, block "
                    f"{block}: {error}"
                ) from error

    def _checked(self, name: str, wanted: Any, value: Any) -> Any:
        where = f"kernels/{self.path}, {self.name}: {name}"
        if wanted == "int32":
            if not -(2**31) <= int(value) < 2**31:
                raise TypeError(f"{where} = {value} is no int32")
            return np.int32(value)
        if not hasattr(value, "flags"):
            raise TypeError(f"{where} is a {type(value).__name__}, not an array")
        if value.ndim != wanted.ndim or not value.flags.c_contiguous:
            raise TypeError(f"{where} must be contiguous with {wanted.ndim} axes: {value.shape}")
        if value.dtype.name not in (wanted.integers or FLOATS):
            raise TypeError(f"{where} has dtype {value.dtype}")
        return value


def team(work: int, most: int) -> int:
    """Threads of a block that reduces their results: the power of two that holds `work`.

    At least a warp's 32, at most `most`.
    """
    return min(max(1 << max(work - 1, 0).bit_length(), 32), most)


@cache
def quieten() -> None:
    """Silence Numba's warnings about small grids: small networks have small arrays."""
    from numba.core.errors import NumbaPerformanceWarning

    warnings.filterwarnings("ignore", "Grid size", NumbaPerformanceWarning)
