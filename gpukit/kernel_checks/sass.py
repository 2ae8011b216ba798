"""What a card would really execute: SASS by nvdisasm, counted by instruction."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

from gpukit.backends.nvrtc import Compiled
from gpukit.backends.wheels import nvidia_file
from gpukit.errors import GpukitError

_FUNCTION = re.compile(r"^\s*\.section\s+\.text\.([^,\s]+)")
_INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P[0-9T]+\s+)?([A-Z][A-Z0-9_.]*)")


def instructions(made: Compiled) -> dict[str, list[str]]:
    """By name expression, the instructions of a kernel in order, each with its modifiers."""
    tool = nvidia_file("bin/nvdisasm", "NVIDIA's disassembler")
    with tempfile.TemporaryDirectory(prefix="gpukit-sass-") as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(made.cubin)
        done = subprocess.run([str(tool), "-c", str(cubin)], capture_output=True, text=True)
    if done.returncode:
        raise GpukitError(f"nvdisasm: {done.stderr.strip() or done.returncode}")
    names = {lowered: expression for expression, lowered in made.lowered.items()}
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in done.stdout.splitlines():
        if match := _FUNCTION.match(line):
            current = found.setdefault(names.get(match[1], match[1]), [])
        elif match := _INSTRUCTION.match(line):
            current.append(match[1])
    return found


def counts(listing: list[str]) -> Counter[str]:
    """How often each opcode occurs, without modifiers: FFMA, LDG, LDL …"""
    return Counter(name.split(".")[0] for name in listing)


def wide(listing: list[str], opcode: str) -> int:
    """How many of `opcode` (LDG, STG, LDS …) move 16 bytes."""
    return sum(name.split(".")[0] == opcode and "128" in name.split(".") for name in listing)
