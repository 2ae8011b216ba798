"""Instruction mix: the SASS instructions of a kernel's hot loop, counted.

The hot loop is the innermost loop with the most arithmetic on floats; of loops without any, the one
that moves the most memory. Innermost is what no jump back to an earlier label divides further. A
kernel without loops is counted whole.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from gpukit.static.sass import Listing, innermost_loops

# Arithmetic on floating-point numbers and matrices.
_MATHS = """
    FADD FADD2 FADD32I FMUL FMUL2 FMUL32I FFMA FFMA2 FFMA32I FMNMX FMNMX3 FSETP FSEL MUFU
    DADD DMUL DFMA DMNMX DSETP HADD2 HMUL2 HFMA2 HMNMX2 HMMA IMMA DMMA QMMA OMMA UTCHMMA
"""
_MEMORY = """
    LDG LDS LDL LD STG STS STL ST LDGSTS LDSM STSM ATOM ATOMS ATOMG RED REDUX LDC LDCU ULDC
"""
MATHS, MEMORY = frozenset(_MATHS.split()), frozenset(_MEMORY.split())
MOVES = ("LDG", "STG", "LDS", "STS", "LDGSTS")
_SHOWN = 8  # kinds of instructions in a line of text


@dataclass(frozen=True)
class InstructionMix:
    """How often each opcode comes: in the hot loop if `is_loop`, else in the whole kernel."""

    counts: dict[str, int]
    is_loop: bool

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def maths(self) -> float:
        """The share of arithmetic on floats, from 0 to 1."""
        return sum(n for name, n in self.counts.items() if name in MATHS) / max(self.total, 1)

    def __str__(self) -> str:
        return self.text(_SHOWN)

    def text(self, shown: int) -> str:
        """In a line, the `shown` most frequent instructions by name."""
        named = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        text = ", ".join(f"{count} {name}" for name, count in named[:shown])
        rest = sum(count for _, count in named[shown:])
        where = "loop" if self.is_loop else "kernel"
        others = f", {rest} other" if rest else ""
        return f"{where} of {self.total}, {100 * self.maths:.0f} % maths: {text}{others}"


def instruction_mix(listing: Listing) -> InstructionMix:
    """Of a kernel's instructions, those of its hot loop by opcode."""
    loops = [_counts(loop) for loop in innermost_loops(listing)]
    if loops:
        hottest = max(loops, key=_heat)
        return InstructionMix(dict(hottest), True)
    return InstructionMix(dict(_counts(listing)), False)


def widths(listing: Listing) -> dict[str, int]:
    """How often a kernel moves memory by which instruction: LDG.128 is 16 bytes a lane, LDG 4."""
    found: Counter[str] = Counter()
    for i in listing:
        if i.opcode in MOVES:
            parts = i.name.split(".")
            size = next(
                (p for p in parts if p in ("U8", "S8", "U16", "S16", "64", "128", "256")), ""
            )
            found[f"{i.opcode}.{size}" if size else i.opcode] += 1
    return dict(found)


def _counts(listing: Listing) -> Counter[str]:
    return Counter(i.opcode for i in listing if i.name and i.opcode != "NOP")


def _heat(counts: Counter[str]) -> tuple[int, int, int]:
    maths = sum(n for name, n in counts.items() if name in MATHS)
    memory = sum(n for name, n in counts.items() if name in MEMORY)
    return maths, memory, sum(counts.values())
