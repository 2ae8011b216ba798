"""Finds NVIDIA's compiler, headers and disassembler in wheels (extra `kernels`) only.

An installed CUDA toolkit is never used, so that every machine compiles with the same headers.
Another version of the compiler can be chosen:

    pip install --no-deps --target nvrtc-13.0 "nvidia-cuda-nvrtc==13.0.*"
    GPUKIT_NVRTC=nvrtc-13.0 gpukit kernels check --all --fuzz 0
"""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from pathlib import Path

from gpukit.errors import GpukitError

INSTALL_KERNELS = "pip install 'gpukit[kernels]'"


@cache
def nvidia_folder() -> Path | None:
    """The folder `nvidia/cu13` of the installed wheels, None without them."""
    spec = importlib.util.find_spec("nvidia")
    for place in (spec and spec.submodule_search_locations) or ():
        for folder in sorted(Path(place).glob("cu1*"), reverse=True):
            if (folder / "include").is_dir() or (folder / "lib").is_dir():
                return folder
    return None


def nvidia_file(pattern: str, what: str) -> Path:
    """The file of a wheel that matches `pattern` (below nvidia/cu13); GpukitError without it."""
    folder = nvidia_folder()
    found = sorted(folder.glob(pattern)) if folder else []
    if not found:
        raise GpukitError(f"{what} is not installed: {INSTALL_KERNELS}")
    return found[0]


def nvrtc_library() -> Path:
    """NVRTC's library: of the folder GPUKIT_NVRTC if that is set, else of the wheels.

    The folder is one to which pip installed the wheel, or the one that holds the library itself.
    Raises GpukitError where there is none.
    """
    named = os.environ.get("GPUKIT_NVRTC")
    if not named:
        return nvidia_file("lib/libnvrtc.so.*", "NVIDIA's run-time compiler")
    for pattern in ("nvidia/*/lib/libnvrtc.so.*", "lib/libnvrtc.so.*", "libnvrtc.so.*"):
        for path in sorted(Path(named).glob(pattern)):
            return path.resolve()
    raise GpukitError(
        f"GPUKIT_NVRTC={named} holds no libnvrtc.so: pip install --no-deps --target {named} "
        "nvidia-cuda-nvrtc"
    )


def include_folders() -> list[Path]:
    """Folders of CUDA's headers (cuda_fp16.h …) and of nv/target; GpukitError without them."""
    headers = nvidia_file("include/cuda_fp16.h", "the wheel nvidia-cuda-runtime (CUDA's headers)")
    target = nvidia_file("include/cccl/nv/target", "the wheel nvidia-cuda-cccl (nv/target)")
    return [headers.parent, target.parent.parent]
