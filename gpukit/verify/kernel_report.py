"""The kernel report of `kernels show`: resources for each architecture, and memory accesses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from gpukit.emulator.trace import Access
from gpukit.launch import nvrtc
from gpukit.launch.nvrtc import Resources
from gpukit.static.instruction_mix import InstructionMix, instruction_mix, widths
from gpukit.static.occupancy import Occupancy, occupancy
from gpukit.static.sass import disassemble
from gpukit.verify.launches import Launch

FRAMES = 2  # an access is told apart by its line, and by the line that called that


@dataclass(frozen=True)
class CompiledKernel:
    """A launch's kernel compiled for sm_`arch`; `problem` says why it is not."""

    arch: int
    resources: Resources = field(default_factory=Resources)
    occupancy: Occupancy | None = None
    mix: InstructionMix | None = None
    widths: dict[str, int] = field(default_factory=dict)
    problem: str = ""


def compiled_for(launch: Launch, arch: int) -> CompiledKernel:
    """The kernel of `launch` compiled for sm_`arch`: resources and occupancy at its block size."""
    try:
        made = nvrtc.compile_text(launch.source, [launch.kernel], arch, name=launch.file)
    except nvrtc.CompileError as error:
        return CompiledKernel(arch, problem=str(error).splitlines()[0])
    taken = made.resources[launch.kernel]
    filled = occupancy(arch, launch.threads, taken.registers, taken.shared + launch.shared)
    listing = disassemble(made)[launch.kernel]
    return CompiledKernel(arch, taken, filled, instruction_mix(listing), widths(listing))


def by_line(accesses: Iterable[Access]) -> list[Access]:
    """Accesses of one line to one array as one, those that waste most before others."""
    merged: dict[tuple[Any, ...], Access] = {}
    for access in accesses:
        places = access.places[:FRAMES]
        key = (places, access.array, access.space, access.kind, access.bytes)
        if key not in merged:
            merged[key] = replace(access, places=places)
            continue
        old = merged[key]
        merged[key] = replace(
            old,
            requests=old.requests + access.requests,
            lanes=old.lanes + access.lanes,
            moved=old.moved + access.moved,
            least=old.least + access.least,
            worst=max(old.worst, access.worst),
            cut=old.cut or access.cut,
        )
    return sorted(merged.values(), key=lambda a: (-a.wasted, -a.moved, a.places))


def as_json(launch: Launch, cards: Sequence[CompiledKernel]) -> dict[str, Any]:
    """All figures of a launch as plain values."""
    found = asdict(replace(launch, source="", accesses=()))
    del found["source"]
    found["accesses"] = [
        {**asdict(a), "each": a.each, "best": a.best} for a in by_line(launch.accesses)
    ]
    found["cards"] = [
        {
            "arch": card.arch,
            "problem": card.problem,
            **asdict(card.resources),
            "occupancy": {**asdict(card.occupancy), "percent": card.occupancy.percent}
            if card.occupancy
            else None,
            "moves": card.widths,
            "hot_loop": {**asdict(card.mix), "maths": card.mix.maths} if card.mix else None,
        }
        for card in cards
    ]
    return found
