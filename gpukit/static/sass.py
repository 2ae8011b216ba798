"""SASS, the machine code of a cubin, by nvdisasm; and what kernels promise of theirs.

A hot loop is an innermost loop with at least 64 multiply-adds. In it, nothing may go to local
memory: a spilled sum would cost more than the tile saves. Where a kernel's template argument calls
an operand packed, its global loads there are 16 bytes wide.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from gpukit.errors import GpukitError
from gpukit.launch.nvrtc import Compiled
from gpukit.launch.sources import Source
from gpukit.launch.wheels import nvidia_file

HOT = 64  # multiply-adds
MULTIPLY_ADDS = ("FFMA", "FFMA2", "DFMA")

_FUNCTION = re.compile(r"^\s*\.section\s+\.text\.([^,\s]+)")
_LABEL = re.compile(r"^(\.L\w+):")
_INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P[0-9T]+\s+)?([A-Z][A-Z0-9_.]*)(.*)")
_TARGET = re.compile(r"`\((\.L\w+)\)")


@dataclass(frozen=True)
class Instruction:
    """Its name with modifiers (LDG.E.128), and the label that it jumps to or that stands here."""

    name: str
    label: str = ""

    @property
    def opcode(self) -> str:
        return self.name.partition(".")[0]

    @property
    def is_wide(self) -> bool:
        """Whether it moves 16 bytes."""
        return "128" in self.name.split(".")


Listing = list[Instruction]


def disassemble(made: Compiled) -> dict[str, Listing]:
    """By name expression, a kernel's instructions in order; labels are ones without a name."""
    tool = nvidia_file("bin/nvdisasm", "NVIDIA's disassembler")
    with tempfile.TemporaryDirectory(prefix="gpukit-sass-") as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(made.cubin)
        done = subprocess.run([str(tool), "-c", str(cubin)], capture_output=True, text=True)
    if done.returncode:
        raise GpukitError(f"nvdisasm: {done.stderr.strip() or done.returncode}")
    return parse(done.stdout, {lowered: name for name, lowered in made.lowered.items()})


def parse(text: str, names: dict[str, str]) -> dict[str, Listing]:
    """nvdisasm's listing cut into functions, called by what `names` has for their symbols."""
    found: dict[str, Listing] = {}
    current: Listing = []
    for line in text.splitlines():
        if match := _FUNCTION.match(line):
            current = found.setdefault(names.get(match[1], match[1]), [])
        elif match := _LABEL.match(line):
            current.append(Instruction("", match[1]))
        elif match := _INSTRUCTION.match(line):
            target = _TARGET.search(match[2])
            current.append(Instruction(match[1], target[1] if target else ""))
    return found


def count(listing: Listing, *opcodes: str) -> int:
    return sum(i.opcode in opcodes for i in listing)


def innermost_loops(listing: Listing, multiply_adds: int = 0) -> list[Listing]:
    """Bodies of loops, from a label to the jump back to it, that hold no other loop.

    Only loops with so many multiply-adds count.
    """
    places = {i.label: at for at, i in enumerate(listing) if not i.name}
    loops = [
        (places[i.label], at)
        for at, i in enumerate(listing)
        if i.opcode == "BRA" and places.get(i.label, at) < at
    ]
    # Behind its end every kernel has a jump to itself, for instructions that are fetched ahead.
    loops = [
        (a, b)
        for a, b in loops
        if any(i.name and i.opcode != "BRA" for i in listing[a:b])
        and count(listing[a:b], *MULTIPLY_ADDS) >= multiply_adds
    ]
    return [
        listing[a : b + 1]
        for a, b in loops
        if not any((c, d) != (a, b) and a <= c and d <= b for c, d in loops)
    ]


def hot_loops(listing: Listing) -> list[Listing]:
    """The bodies of innermost loops with many multiply-adds."""
    return innermost_loops(listing, HOT)


def broken_facts(source: Source, listings: dict[str, Listing]) -> list[str]:
    """What kernels of `source` promise and their code does not hold."""
    broken = []
    for instance in source.instances:
        listing = listings.get(instance.expression, [])
        names = [t.name for t in source.kernels[instance.kernel].template]
        packed = [
            value == "true"
            for name, value in zip(names, instance.arguments)
            if name.startswith("PACKED")
        ]
        for loop in hot_loops(listing):
            if count(loop, "LDL", "STL"):
                broken.append(f"{instance.expression} uses local memory in its hot loop")
            narrow = [i.name for i in loop if i.opcode == "LDG" and not i.is_wide]
            if packed and all(packed) and narrow:
                broken.append(f"{instance.expression} loads by {narrow[0]} where it is packed")
    return broken
