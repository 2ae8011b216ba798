"""Compiles each instance of a kernel, and the runtime, to a library by g++, once on each machine.

Libraries are cached under a hash of everything that goes into them. The digest at the end of the
file is not part of the library; loaders ignore it.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from gpukit.core.caches import Cache
from gpukit.emulator.translate import translate
from gpukit.errors import GpukitError
from gpukit.launch.engine import Bound
from gpukit.launch.wheels import include_folders

HERE = Path(__file__).parent
MODES = ("plain", "asan", "tsan", "trace")

_FLAGS = {
    "plain": ("-O2", "-g1"),
    "asan": (
        "-O1",
        "-g",
        "-fno-omit-frame-pointer",
        "-fsanitize=address,undefined",
        "-fsanitize=bounds-strict",
        "-fno-sanitize=vptr,float-divide-by-zero,float-cast-overflow",
        "-fno-sanitize-recover=all",
    ),
    "tsan": ("-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=thread"),
    # Calls before loads, stores and basic blocks go to the runtime, not to a sanitizer's library.
    # Packs of 16 bytes stay whole, and code stays in the order of the source.
    "trace": (
        "-O1",
        "-g",
        "-DGPUKIT_TRACE",
        "-fsanitize=thread",
        "-fsanitize-coverage=trace-pc",
        "-fno-tree-sra",
        "-fno-reorder-blocks",
        "-nodefaultlibs",
        "-Wl,--no-as-needed,-lstdc++,-lm,-lc",
    ),
}
_COMMON = (
    "-std=c++17",
    "-shared",
    "-fPIC",
    "-pthread",
    "-fno-strict-aliasing",
    "-Wno-unknown-pragmas",
    "-Wno-attributes",
)

LIBRARIES = Cache("emulator", ".so")


@cache
def compiler() -> str:
    """The path of g++ (GPUKIT_CXX names another one); GpukitError where there is none."""
    name = os.environ.get("GPUKIT_CXX") or "g++"
    path = shutil.which(name)
    if path is None:
        raise GpukitError(
            f"the device emu compiles kernels with {name}, which is not installed: "
            "apt install g++ (or dnf install gcc-c++), or name one with GPUKIT_CXX"
        )
    return path


def compiler_problem() -> str:
    """Why nothing can be compiled for emu here; empty where it can."""
    if platform.machine() not in ("x86_64", "AMD64", "aarch64", "arm64"):
        return f"the emulator runs on x86-64 and aarch64, not on {platform.machine()}"
    try:
        compiler()
    except GpukitError as error:
        return str(error)
    return ""


def runtime_library(mode: str) -> Path:
    """The runtime, compiled for `mode`."""
    text = '#include "runtime/runtime.cpp"\n'
    # The runtime itself is not instrumented: it only informs the sanitizers.
    flags = ("-O2", "-g1", "-Wall", "-Wextra", f"-DGPUKIT_{mode.upper()}", f"-I{HERE}")
    return _library("runtime", text, (*_COMMON[:4], *flags))


def kernel_library(bound: Bound, mode: str) -> Path:
    """An instance of a kernel, compiled for `mode`. GpukitError with g++'s whole log."""
    text = translate(bound.source, bound.expression, unroll=mode == "plain")
    flags = [*_COMMON, *_FLAGS[mode], f"-I{HERE / 'include'}"]
    if "GPUKIT_NVIDIA_TYPES" in text:
        flags += [f"-isystem{folder}" for folder in include_folders()]
    return _library(bound.expression, text, tuple(flags))


def sanitizer_runtime(mode: str) -> str:
    """The library to preload before Python so that kernels built for `mode` can be loaded."""
    names = {"asan": ("libasan.so", "libubsan.so"), "tsan": ("libtsan.so",)}[mode]
    found = []
    for name in names:
        command = [compiler(), f"-print-file-name={name}"]
        path = subprocess.run(command, capture_output=True, text=True).stdout.strip()
        if not Path(path).is_absolute():
            raise GpukitError(f"{compiler()} has no {name}: install its sanitizer libraries")
        found.append(str(Path(path).resolve()))
    return ":".join(found)


def _library(name: str, text: str, flags: tuple[str, ...]) -> Path:
    native = ("-march=native",) if platform.machine() in ("x86_64", "AMD64") else ()
    flags = (*flags, *native)
    key = "\0".join([_machine(), *flags, text])
    return LIBRARIES.file(key, lambda: _compile(name, text, flags))


def _compile(name: str, text: str, flags: tuple[str, ...]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="gpukit-build-") as folder:
        source = Path(folder) / "kernel.cpp"
        source.write_text(text, encoding="utf-8")
        result = Path(folder) / "kernel.so"
        command = [compiler(), *flags, str(source), "-o", str(result)]
        # The compiler must not inherit a sanitizer preloaded for this process.
        variables = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
        done = subprocess.run(command, capture_output=True, text=True, env=variables)
        if done.returncode:
            raise GpukitError(f"g++ cannot compile {name} for emu:\n{done.stderr.strip()}")
        return result.read_bytes()


@cache
def _machine() -> str:
    # Another compiler, another processor, another emulator: another library.
    path = Path(compiler()).resolve()
    stamp = path.stat()
    texts = [str(path), str(stamp.st_size), str(stamp.st_mtime_ns), platform.machine()]
    cpu = Path("/proc/cpuinfo")
    if cpu.exists():
        lines = cpu.read_text(errors="replace").splitlines()
        texts += [line for line in lines if line.startswith(("flags", "Features"))][:1]
    for file in sorted([*HERE.glob("include/*"), *HERE.glob("runtime/*")]):
        texts.append(file.read_text(encoding="utf-8"))
    return "\0".join(texts)
