"""NVIDIA's run-time compiler, from its wheel: compiles for every architecture on any machine.

NVRTC needs neither driver nor card. Real targets (`-arch=sm_80`) run the assembler too, so inline
PTX is checked and the log reports registers, spills and shared memory of every kernel. Options are
those that CuPy passes (options.py); GPUKIT_NVRTC names the folder of another version.

    python -m gpukit.launch.nvrtc kernels/activation.cu --arch 75 --arch 120
"""

from __future__ import annotations

import argparse
import ctypes
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from gpukit.errors import GpukitError
from gpukit.launch.options import REPORT, for_nvrtc
from gpukit.launch.sources import Source, load
from gpukit.launch.wheels import nvrtc_library

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)


@dataclass(frozen=True)
class Resources:
    """Resources of one thread (registers, spilled bytes, local bytes) and block (shared bytes)."""

    registers: int = 0
    spill_stores: int = 0
    spill_loads: int = 0
    shared: int = 0
    local: int = 0

    def __str__(self) -> str:
        text = f"{self.registers} registers, {self.shared} B shared"
        if self.local or self.spill_stores or self.spill_loads:
            text += f", {self.local} B local, spills {self.spill_stores}/{self.spill_loads} B"
        return text


@dataclass(frozen=True)
class Compiled:
    """A compiled source: code, the whole log, and resources by name expression."""

    cubin: bytes
    ptx: bytes
    log: str
    warnings: tuple[str, ...]
    resources: dict[str, Resources]
    lowered: dict[str, str]


class CompileError(GpukitError):
    """A source does not compile; the message ends with the compiler's whole log."""


def compile_text(
    source: str, name_expressions: Sequence[str], arch: int, *, name: str = "kernel.cu"
) -> Compiled:
    """Compile the text `source` for sm_`arch`, with the kernels called `name_expressions`.

    Raises CompileError with the compiler's whole log. Warnings are listed, not raised.
    """
    library = _library()
    program = ctypes.c_void_p()
    _check(
        library.nvrtcCreateProgram(
            ctypes.byref(program), source.encode(), name.encode(), 0, None, None
        )
    )
    try:
        for expression in name_expressions:
            _check(library.nvrtcAddNameExpression(program, expression.encode()))
        options = [*for_nvrtc(arch, headers="#include <" in source), REPORT]
        array = (ctypes.c_char_p * len(options))(*(o.encode() for o in options))
        status = library.nvrtcCompileProgram(program, len(options), array)
        log = _read(library, "ProgramLog", program).rstrip(b"\0").decode(errors="replace").strip()
        if status:
            raise CompileError(f"{name} does not compile for sm_{arch}:\n{log or _text(status)}")
        lowered = {}
        for expression in name_expressions:
            pointer = ctypes.c_char_p()
            _check(library.nvrtcGetLoweredName(program, expression.encode(), ctypes.byref(pointer)))
            lowered[expression] = (pointer.value or b"").decode()
        found = _resources(log)
        return Compiled(
            _read(library, "CUBIN", program),
            _read(library, "PTX", program).rstrip(b"\0"),
            log,
            tuple(_warnings(log)),
            {e: found.get(mangled, Resources()) for e, mangled in lowered.items()},
            lowered,
        )
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def compile_source(source: Source, arch: int) -> Compiled:
    """Every declared instance in `source` that is meant for sm_`arch`."""
    expressions = [i.expression for i in source.instances if i.arch <= arch]
    return compile_text(source.text, expressions, arch, name=source.file)


def version() -> tuple[int, int]:
    """NVRTC's version, such as (13, 0)."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(_library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    return major.value, minor.value


@cache
def _library() -> ctypes.CDLL:
    path = nvrtc_library()
    builtins = sorted(path.parent.glob("libnvrtc-builtins.so.*"))
    if builtins:
        ctypes.CDLL(str(builtins[0]), mode=ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(path))
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    program = ctypes.c_void_p
    library.nvrtcCreateProgram.argtypes = [
        ctypes.POINTER(program),
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ]
    library.nvrtcAddNameExpression.argtypes = [program, ctypes.c_char_p]
    library.nvrtcCompileProgram.argtypes = [program, ctypes.c_int, ctypes.c_void_p]
    library.nvrtcGetLoweredName.argtypes = [program, ctypes.c_char_p, ctypes.c_void_p]
    for what in ("ProgramLog", "PTX", "CUBIN"):
        getattr(library, f"nvrtcGet{what}Size").argtypes = [program, ctypes.c_void_p]
        getattr(library, f"nvrtcGet{what}").argtypes = [program, ctypes.c_char_p]
    return library


def _read(library: ctypes.CDLL, what: str, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    _check(getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(max(size.value, 1))
    _check(getattr(library, f"nvrtcGet{what}")(program, buffer))
    return buffer.raw[: size.value]


def _check(status: int) -> None:
    if status:
        raise GpukitError(f"NVRTC: {_text(status)}")


def _text(status: int) -> str:
    return _library().nvrtcGetErrorString(status).decode()


def _warnings(log: str) -> list[str]:
    return [line for line in log.splitlines() if re.search(r"\bwarning\b", line, re.IGNORECASE)]


def _resources(log: str) -> dict[str, Resources]:
    """ptxas prints, for each entry function, a line of stack and spills and a line "Used …"."""
    found: dict[str, Resources] = {}
    name, stack = "", (0, 0, 0)
    for line in log.splitlines():
        if match := re.search(r"Compiling entry function '([^']+)'", line):
            name = match[1]
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) .* stores, (\d+) .* loads", line):
            stack = (int(match[1]), int(match[2]), int(match[3]))
        elif match := re.search(r"Used (\d+) registers", line):
            shared = re.search(r"(\d+)(?:\+\d+)? bytes smem", line)
            found[name] = Resources(
                int(match[1]), stack[1], stack[2], int(shared[1]) if shared else 0, stack[0]
            )
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile every instance of each file; print what it takes, or the compiler's whole log."""
    parser = argparse.ArgumentParser(prog="python -m gpukit.launch.nvrtc", description=__doc__)
    parser.add_argument("file", nargs="+")
    parser.add_argument("--arch", type=int, action="append", help="default: all supported")
    options = parser.parse_args(arguments)
    failures = 0
    for file in options.file:
        for arch in options.arch or ARCHITECTURES:
            try:
                made = compile_source(load(file), arch)
            except GpukitError as error:
                print(error, file=sys.stderr)
                failures += 1
                continue
            for expression, resources in made.resources.items():
                print(f"{file} sm_{arch} {expression}: {resources}")
            if made.warnings:
                print(made.log, file=sys.stderr)
                failures += 1
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
