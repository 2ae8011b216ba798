"""A BLAS of gpukit's own: private, single-threaded, with the kernels that suit this CPU.

OpenBLAS takes AVX2 kernels on AMD Zen 4 and 5 and reads its choice from the environment when it is
loaded, long before gpukit is imported in the case of NumPy's copy. The wheel scipy-openblas32
carries the same library under another name, so a second one is loaded with the right choice and
without threads; NumPy's stays as the user set it. Measured on one Zen 5 core, sgemm 1024³:
129 GFLOP/s with the Haswell kernels, 250 with the SkylakeX ones.

`gemm` is called from nopython code, without the GIL and from several threads at once.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
from numba import types
from numba.extending import intrinsic, overload

from gpukit.errors import SettingError

ROW_MAJOR, NO_TRANSPOSE, TRANSPOSE = 101, 111, 112

# Everything that a SkylakeX kernel may execute.
_SKYLAKEX = ("avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl", "fma", "avx2")

_loading = threading.Lock()


def suitable_core_type() -> str | None:
    """OpenBLAS core type to ask for, or None where OpenBLAS's own choice is right.

    OpenBLAS recognises Intel's and ARM's CPUs; it has no AVX-512 kernels for AMD's, but Intel's
    run there.
    """
    features = llvm.get_host_cpu_features()
    if llvm.get_host_cpu_name().startswith("znver") and all(features.get(f) for f in _SKYLAKEX):
        return "SkylakeX"
    return None


def library_path() -> Path:
    """The shared library inside the scipy-openblas32 wheel, found without importing the package.

    Importing would load the library, and so fix its core type, before the environment is right.
    """
    spec = importlib.util.find_spec("scipy_openblas32")
    if spec is not None and spec.origin is not None:
        for path in sorted((Path(spec.origin).parent / "lib").glob("*scipy_openblas*")):
            if path.suffix in (".so", ".dylib", ".dll"):
                return path
    raise SettingError("no BLAS for CPU work: pip install scipy-openblas32")


@contextmanager
def _environment(**values: str | None) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    _set_environment(values)
    try:
        yield
    finally:
        _set_environment(before)


def _set_environment(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _load() -> ctypes.CDLL:
    path = library_path()
    wanted: dict[str, str | None] = {"OPENBLAS_NUM_THREADS": "1", "OPENBLAS_L2_SIZE": None}
    core = suitable_core_type()
    if core is not None:
        wanted["OPENBLAS_CORETYPE"] = core
    try:
        with _loading, _environment(**wanted):
            library = ctypes.CDLL(str(path))
    except OSError as error:
        raise SettingError(
            f"the BLAS {path.name} does not load ({error}); "
            "pip install --force-reinstall scipy-openblas32"
        ) from error
    library.scipy_openblas_set_num_threads(1)
    return library


_library = _load()


def core_type() -> str:
    """The kernels that gpukit's BLAS uses here, for example "SkylakeX"."""
    return _text("scipy_openblas_get_corename")


def version() -> str:
    """OpenBLAS's own description of its version and build."""
    return _text("scipy_openblas_get_config")


def _text(function: str) -> str:
    call = getattr(_library, function)
    call.restype = ctypes.c_char_p
    return str(call().decode())


def _external(name: str, real: Any) -> Any:
    """`cblas_<name>` as a function that nopython code calls by symbol, which survives caching."""
    symbol = f"gpukit_cblas_{name}"
    function = getattr(_library, f"scipy_cblas_{name}")
    llvm.add_symbol(symbol, ctypes.cast(function, ctypes.c_void_p).value)
    i, p = types.intc, types.uintp
    return types.ExternalFunction(
        symbol, types.void(i, i, i, i, i, i, real, p, i, p, i, real, p, i)
    )


_sgemm = _external("sgemm", types.float32)
_dgemm = _external("dgemm", types.float64)


def _address(typing_context, array):  # type: ignore[no-untyped-def]
    """Address of an array's first element, for `gemm`."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.ptrtoint(data, context.get_value_type(types.uintp))

    return types.uintp(array), generate


address: Any = intrinsic(_address)


# An array of any shape, read from its first element on, and its leading dimension.
Matrix = tuple[Any, int]
Shape = tuple[int, int, int]


def gemm(
    transpose_a: bool, transpose_b: bool, shape: Shape, a: Matrix, b: Matrix, beta: float, c: Matrix
) -> None:
    """c[m, n] = op(a)[m, k] @ op(b)[k, n] + beta·c, for nopython code; float32 or float64.

    `shape` is (m, n, k); a, b and c are row-major; `op` transposes where the flag says so. beta is
    0 or 1.
    """
    raise NotImplementedError("gemm is for nopython code")


@overload(gemm, inline="never")
def _gemm(transpose_a, transpose_b, shape, a, b, beta, c):  # type: ignore[no-untyped-def]
    real = c[0].dtype
    known = {types.float32: _sgemm, types.float64: _dgemm}
    if not (a[0].dtype == b[0].dtype == real) or real not in known:
        return None
    call, i = known[real], types.intc

    def compute(transpose_a, transpose_b, shape, a, b, beta, c):  # type: ignore[no-untyped-def]
        m, n, k = shape
        call(
            i(ROW_MAJOR),
            i(TRANSPOSE if transpose_a else NO_TRANSPOSE),
            i(TRANSPOSE if transpose_b else NO_TRANSPOSE),
            i(m),
            i(n),
            i(k),
            real(1),
            address(a[0]),
            i(a[1]),
            address(b[0]),
            i(b[1]),
            real(beta),
            address(c[0]),
            i(c[1]),
        )

    return compute
