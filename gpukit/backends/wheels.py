"""Where NVIDIA's compiler, headers and disassembler lie: in wheels (extra `kernels`), nowhere else.

A toolkit that happens to be installed on a machine is never looked at, so that every machine
compiles with the same headers.
"""

from __future__ import annotations

import importlib.util
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


def include_folders() -> list[Path]:
    """Folders of CUDA's headers (cuda_fp16.h …) and of nv/target; GpukitError without them."""
    headers = nvidia_file("include/cuda_fp16.h", "the wheel nvidia-cuda-runtime (CUDA's headers)")
    target = nvidia_file("include/cccl/nv/target", "the wheel nvidia-cuda-cccl (nv/target)")
    return [headers.parent, target.parent.parent]
