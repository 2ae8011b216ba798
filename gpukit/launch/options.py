"""Compiler options of kernels: the same for NVRTC here and for CuPy on a card.

CuPy adds options around those of a RawModule (`OURS`): its headers before them, a toolkit's after
them, then how float32 treats subnormals and the default execution space. `for_nvrtc` gives all of
them in CuPy's order, so that the checked code is the code that runs (tests/kernels/test_nvrtc.py
holds it to CuPy 14.2, cupy/_core/core.pyx and cupy/cuda/compiler.py).
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

from gpukit.launch.wheels import include_folders

OURS = ("-std=c++17",)
# float32 subnormals count as zero (docs/numerics.md).
FLUSH = "-ftz=true"
DEVICE = "--device-as-default-execution-space"
REPORT = "--ptxas-options=-v"  # ours alone: registers and spills in the log, no other code


def for_nvrtc(arch: int, headers: bool) -> tuple[str, ...]:
    """What CuPy passes for sm_`arch`, with its folders where a source includes `headers`.

    Without CuPy, the wheels' headers replace those that it bundles.
    """
    before, after = _folders() if headers else ((), ())
    return (*before, *OURS, *after, FLUSH, f"-arch=sm_{arch}", DEVICE)


@cache
def _folders() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """-I options before and behind `OURS`."""
    cuda, cccl = include_folders()
    own = cupy_headers()
    if own is None:
        return (f"-I{cccl}",), (f"-I{cuda}",)
    parts = ("cub", "thrust", "libcudacxx")
    return tuple(f"-I{own}/cupy/_cccl/{part}" for part in parts), (f"-I{own}", f"-I{cuda}")


def cupy_headers() -> Path | None:
    """The folder of CuPy's headers; None where it is not installed. CuPy is not imported."""
    spec = importlib.util.find_spec("cupy")
    for place in (spec and spec.submodule_search_locations) or ():
        folder = Path(place) / "_core" / "include"
        if (folder / "cupy" / "_cccl").is_dir():
            return folder
    return None
