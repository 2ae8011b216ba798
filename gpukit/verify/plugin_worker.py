"""The worker process that loads a plug-in, says what it registers, and compiles its CUDA C.

    python -m gpukit.verify.plugin_worker '{"plugins": ["mine.py"], "architectures": [80]}'

Replies: `refused`, or `found`; for each file and architecture `compiling`, `compiled`; `done`.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from gpukit.core import process
from gpukit.errors import GpukitError
from gpukit.launch import nvrtc
from gpukit.launch.kernel import Kernel
from gpukit.launch.sources import Source
from gpukit.plugins import PluginError, load_any
from gpukit.verify.coverage import emulated


def main(order: dict[str, Any], reply: process.Reply) -> int:
    """Do it; 0 also where the plug-in is refused, which was replied."""
    try:
        plugins = [plugin for name in order["plugins"] for plugin in load_any(name)]
    except PluginError as error:
        reply(refused=str(error))
        return 0
    kernels = [kernel for plugin in plugins for kernel in plugin.kernels]
    files = dict.fromkeys(str(kernel.file) for kernel in kernels)
    reply(
        found=[name for plugin in plugins for name in emulated(plugin)],
        left_out=[
            name for plugin in plugins for name in plugin.names if name not in emulated(plugin)
        ],
        files=len(files),
    )
    for file in files:
        own = [kernel for kernel in kernels if str(kernel.file) == file]
        for arch in order["architectures"]:
            reply(compiling=f"{own[0].source.file} sm_{arch}")
            reply(**_compile(own, arch))
    reply(done=True)
    return 0


def _compile(kernels: list[Kernel], arch: int) -> dict[str, Any]:
    source = kernels[0].source
    newest = {k.name: k.min_arch for k in kernels}
    answer: dict[str, Any] = {"compiled": source.file, "arch": arch}
    try:
        names = [
            i.expression for i in source.instances if max(i.arch, newest.get(i.kernel, 75)) <= arch
        ]
        made = nvrtc.compile_text(source.text, names, arch, name=source.file)
    except nvrtc.CompileError as error:
        return {**answer, "problem": first_error(str(error), source)}
    except GpukitError as error:
        return {**answer, "problem": str(error)}
    problem = _place(made.warnings[0]) if made.warnings else ""
    taken = {name: str(resources) for name, resources in made.resources.items()}
    return {**answer, "problem": problem, "taken": taken}


def first_error(log: str, source: Source) -> str:
    """The first error of a compiler's log, with file and line."""
    for line in log.splitlines():
        if shared := re.search(
            r"function '(\S+)' uses too much shared data \((\w+).*, (\w+)", line
        ):
            kernel = next((k for k in source.kernels.values() if k.name in shared[1]), None)
            size, most = int(shared[2], 16), int(shared[3], 16)
            return (
                f"{kernel.place if kernel else source.file}: kernel "
                f"{kernel.name if kernel else shared[1]} declares {size} bytes of shared memory, a "
                f"block can have {most}; use less, or extern __shared__ and shared="
            )
        if re.search(r"\berror\b", line):
            return _place(line)
    return " ".join(log.split())


def _place(line: str) -> str:
    """mine.cu(7): error: … as mine.cu:7: error: …"""
    return re.sub(r"^(\S+?)\((\d+)\)", r"\1:\2", " ".join(line.split()))


if __name__ == "__main__":
    sys.exit(process.work(main))
