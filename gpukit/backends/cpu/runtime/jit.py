"""One way to compile a loop: serial, without the GIL, kept in gpukit's own cache.

Threads come from `threads.parallel_for`, never from Numba: its OpenMP threads spin and take the
cores from BLAS, and parallel=True compiles three times as long. Functions compile at their first
call for the element type at hand, float32 in most programs.
"""

from __future__ import annotations

import ctypes
import hashlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba
import numpy as np
from numba.core import serialize, sigutils
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult

from gpukit.core.caches import Cache

COMPILED = Cache("numba")

# An index that cannot be negative: x[at(i)]. Numba lets plain integers wrap around as Python does,
# and the select that this takes at each access keeps loops scalar: relu ran at a tenth of it.
at = np.uintp

# Rounding may differ from a plain loop's (fused multiply-add), NaN, infinities and -0.0 may not.
_EXACT = {"contract"}
# Also allows sums in vector lanes, which are more accurate than a plain loop's, not less.
_REORDERED = {"contract", "reassoc"}


def _offer_wide_division() -> None:
    """Give LLVM the 128-bit divisions of the C compiler's run-time library.

    For some loop counts LLVM calls them, and a symbol that it does not find crashes the process.
    """
    try:
        library = ctypes.CDLL("libgcc_s.so.1")
    except OSError:
        return
    for symbol in ("__udivti3", "__umodti3", "__divti3", "__modti3"):
        function = getattr(library, symbol, None)
        if function is not None:
            llvm.add_symbol(symbol, ctypes.cast(function, ctypes.c_void_p).value)


_offer_wide_division()


@cache
def _source() -> str:
    """A digest of all CPU code: functions are inlined into those of other files."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


class _Kept(_Cache):
    """A function's compiled forms, one entry of `COMPILED` each, checked before Numba reads it.

    Numba's own cache has an index a function, which processes overwrite for each other, and trusts
    what lies there.
    """

    def __init__(self, function: Callable[..., Any], options: object) -> None:
        inner = [cell.cell_contents for cell in function.__closure__ or ()]
        if not all(isinstance(value, bool | int | float | str) for value in inner):
            raise TypeError(f"{function.__qualname__} closes over more than numbers: no key tells")
        self._name = (
            f"{function.__module__} {function.__qualname__} "
            f"{function.__code__.co_firstlineno} {inner} {options}"
        )

    @property
    def cache_path(self) -> str:
        return str(COMPILED.folder)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        target_context.refresh()
        key = self._key(sig, target_context.codegen())
        content = COMPILED.read(key)
        if content is None:
            return None
        try:
            return CompileResult._rebuild(target_context, *serialize.loads(content))
        except Exception:  # of another Numba, though it has the same version
            COMPILED.drop(key)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        if not data.library.has_dynamic_globals:  # addresses of this process
            COMPILED.write(self._key(sig, data.codegen), serialize.dumps(data._reduce()))

    def enable(self) -> None:
        pass

    def disable(self) -> None:
        pass

    def flush(self) -> None:
        pass

    def _key(self, sig: Any, codegen: Any) -> str:
        arguments, result = sigutils.normalize_signature(sig)
        versions = (sys.implementation.cache_tag, np.__version__, numba.__version__)
        parts = (_source(), *versions, llvmlite.__version__, codegen.magic_tuple())
        return "\n".join(map(str, (*parts, self._name, arguments, result)))


@contextmanager
def _always_compiled() -> Iterator[None]:
    """Within the block, Numba compiles whatever NUMBA_DISABLE_JIT says."""
    config: Any = numba.config
    before = config.DISABLE_JIT
    config.DISABLE_JIT = 0
    try:
        yield
    finally:
        config.DISABLE_JIT = before


def jit(
    function: Callable[..., Any] | None = None, *, reorder: bool = False, inline: bool = False
) -> Any:
    """Compile `function` in nopython mode without the GIL; `reorder` lets sums run in vector lanes.

    Index arithmetic is unchecked, and division by zero gives what NumPy gives.
    """
    if function is None:
        return lambda f: jit(f, reorder=reorder, inline=inline)
    with _always_compiled():
        compiled: Any = numba.njit(
            nogil=True,
            error_model="numpy",
            boundscheck=False,
            fastmath=_REORDERED if reorder else _EXACT,
            forceinline=inline,
        )(function)
    compiled._cache = _Kept(function, (reorder, inline))
    return compiled
