"""One way to compile a loop: serial, without the GIL, cached under gpukit's own cache folder.

Threads come from `threads.parallel_for`, never from Numba: its OpenMP threads spin and take the
cores from BLAS, and parallel=True compiles three times as long. Functions compile at their first
call for the element type at hand, float32 in most programs.
"""

from __future__ import annotations

import ctypes
import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np

from gpukit import settings

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
def cache_folder() -> Path | None:
    """Folder of the compiled functions, or None where none can be written.

    Its name holds a digest of this package's source. Numba itself only notices changes of the file
    that a function stands in, not of inlined functions from other files.
    """
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    folder = settings.cache_dir() / "numba" / digest.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return None


@contextmanager
def _own_settings(folder: Path | None) -> Iterator[None]:
    """Within the block, Numba compiles whatever NUMBA_DISABLE_JIT says, and caches in `folder`."""
    config: Any = numba.config
    before = {name: getattr(config, name) for name in ("CACHE_DIR", "DISABLE_JIT")}
    config.DISABLE_JIT = 0
    if folder is not None:
        config.CACHE_DIR = str(folder)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(config, name, value)


def jit(
    function: Callable[..., Any] | None = None, *, reorder: bool = False, inline: bool = False
) -> Any:
    """Compile `function` in nopython mode without the GIL; `reorder` lets sums run in vector lanes.

    Index arithmetic is unchecked, and division by zero gives what NumPy gives.
    """
    if function is None:
        return lambda f: jit(f, reorder=reorder, inline=inline)
    folder = cache_folder()
    with _own_settings(folder):
        return numba.njit(
            nogil=True,
            cache=folder is not None,
            error_model="numpy",
            boundscheck=False,
            fastmath=_REORDERED if reorder else _EXACT,
            forceinline=inline,
        )(function)
