"""Translates one instance of a kernel to C++, keeping line numbers.

A header (include/gpukit_emulator.h) makes most of CUDA C valid C++. Text is changed only where a
header cannot do it: shared arrays become references into memory that the runtime owns, and `#pragma
unroll` becomes GCC's.
"""

from __future__ import annotations

import re

from gpukit.errors import GpukitError
from gpukit.launch.limits import MOST_THREADS
from gpukit.launch.sources import Source, split

_ALIGN = r"(?:(?:__align__|alignas)\s*\(((?:[^()]|\([^()]*\))*)\)\s*)?"
_SHARED = re.compile(rf"(\bextern\b\s*)?{_ALIGN}\b__shared__\b\s*{_ALIGN}([^;{{}}]*);")
_DECLARATOR = re.compile(r"^(.*?)\s*\b(\w+)\s*((?:\[[^\]]*\]\s*)*)$", re.DOTALL)
# A kernel has internal linkage here, and its library one name for all.
_EXTERN_C = re.compile(r'\bextern\s+"C"\s+(?=__global__\b)')
_SYSTEM_INCLUDE = re.compile(r"^[ \t]*#[ \t]*include[ \t]*<[^>]+>[ \t]*$", re.MULTILINE)
_UNROLL = re.compile(
    r"^([ \t]*)#[ \t]*pragma[ \t]+unroll\b[ \t]*\(?[ \t]*(\w*)[ \t]*\)?[ \t]*$", re.M
)


def translate(source: Source, expression: str, *, unroll: bool) -> str:
    """C++ for g++ that exports `expression` as gpukit_run, with what it takes and its block."""
    text = source.masked_comments
    includes = _SYSTEM_INCLUDE.findall(text)
    text = _SYSTEM_INCLUDE.sub("", text)
    text = _EXTERN_C.sub("", text)
    text = _SHARED.sub(lambda match: _shared(match, source.file), text)
    if "__shared__" in text:
        raise GpukitError(f"{source.file}: a __shared__ declaration that the emulator cannot read")
    text = _UNROLL.sub(_unroll if unroll else "", text)
    return "\n".join(
        [
            *(["#define GPUKIT_NVIDIA_TYPES 1"] if includes else []),
            *dict.fromkeys(i.strip() for i in includes),
            '#include "gpukit_emulator.h"',
            "namespace {",
            text,
            f'#line 1 "{source.file}: {expression}"',
            f"using gpukit_instance = gpukit_emulator::Thunk<&{expression}>;",
            *_most_threads(source, expression),
            "}",
            'extern "C" void gpukit_run(void** arguments) { gpukit_instance::run(arguments); }',
            'extern "C" const char* gpukit_signature() { return gpukit_instance::signature(); }',
            'extern "C" unsigned gpukit_most_threads() { return gpukit_threads; }',
            "",
        ]
    )


def _most_threads(source: Source, expression: str) -> list[str]:
    """C++ that makes gpukit_threads of the kernel's __launch_bounds__, which may name its template
    parameters."""
    name, _, arguments = expression.partition("<")
    declaration = source.kernels[name]
    most = f"gpukit_emulator::first_of({declaration.bounds or MOST_THREADS})"
    if not declaration.template:
        return [f"constexpr unsigned gpukit_threads = {most};"]
    parameters = ", ".join(f"{t.kind} {t.name}" for t in declaration.template)
    return [
        f"template <{parameters}> constexpr unsigned gpukit_bounds = {most};",
        f"constexpr unsigned gpukit_threads = gpukit_bounds<{arguments};",
    ]


def _unroll(match: re.Match[str]) -> str:
    count = match[2]
    if not count:
        return f"{match[1]}#pragma GCC unroll 32"
    return f"{match[1]}#pragma GCC unroll {min(int(count), 65534) if count.isdigit() else 8}"


def _shared(match: re.Match[str], file: str) -> str:
    extern, align, declarators = match[1], match[2] or match[3], match[4]
    newlines = "\n" * match[0].count("\n")
    items = split(declarators)
    head = _DECLARATOR.match(items[0]) if items else None
    if head is None or not head[1].strip():
        raise GpukitError(f"{file}: cannot read {match[0]!r}; write __shared__ TYPE name[SIZE];")
    kind = head[1].strip()
    if extern:
        return (
            f"{kind}* {head[2]} = "
            f"static_cast<{kind}*>(gpukit_dynamic_shared(__FILE__, __LINE__));{newlines}"
        )
    parts = []
    for item in [items[0][len(head[1]) :], *items[1:]]:
        name = _DECLARATOR.match("_ " + item.strip())
        if name is None:
            raise GpukitError(f"{file}: cannot read {match[0]!r}")
        n, sizes = name[2], name[3]
        parts.append(
            f"static char gpukit_key_{n}; typedef {kind} gpukit_type_{n} {sizes}; "
            f"gpukit_type_{n}& {n} = gpukit_emulator::shared<gpukit_type_{n}>"
            f'(&gpukit_key_{n}, "{n}", {align or 0});'
        )
    return " ".join(parts) + newlines
