"""Kernel reports: resources, occupancy and instruction mix for each architecture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
SHOWN = 4  # kinds of instructions in a row
SHOWN_ARCH = 90  # whose instructions are shown, if it is among the architectures


@dataclass(frozen=True)
class CompiledKernel:
    """A launch's kernel compiled for sm_`arch`; `problem` says why it is not."""

    arch: int
    resources: Resources = field(default_factory=Resources)
    occupancy: Occupancy | None = None
    mix: InstructionMix | None = None
    widths: dict[str, int] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class KernelReport:
    """A launch, and its kernel compiled for each architecture."""

    launch: Launch
    cards: tuple[CompiledKernel, ...]

    def as_json(self) -> dict[str, Any]:
        """All figures but memory accesses, as plain values."""
        found = asdict(replace(self.launch, source="", accesses=()))
        del found["source"], found["accesses"], found["traced"]
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
            for card in self.cards
        ]
        return found

    def with_accesses(self) -> dict[str, Any]:
        """All figures as plain values."""
        accesses = [
            {**asdict(a), "each": a.each, "best": a.best} for a in by_line(self.launch.accesses)
        ]
        return {**self.as_json(), "traced": self.launch.traced, "accesses": accesses}


def kernel_reports(launches: Sequence[Launch], architectures: Sequence[int]) -> list[KernelReport]:
    """A report for each launch, in their order."""
    with ThreadPoolExecutor(2) as pool:
        work = [(one, arch) for one in launches for arch in architectures]
        cards = iter([*pool.map(lambda pair: _compiled(*pair), work)])
    return [KernelReport(one, tuple(next(cards) for _ in architectures)) for one in launches]


def distinct(launches: Sequence[Launch]) -> list[Launch]:
    """The first of those launches of one kernel that have the same block size."""
    once = {(one.kernel, one.file, one.block, one.shared): one for one in reversed(launches)}
    return [*reversed(once.values())]


def _compiled(launch: Launch, arch: int) -> CompiledKernel:
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


def occupancy_table(found: Sequence[KernelReport]) -> list[tuple[str, ...]]:
    """Rows: a kernel, its occupancy on each architecture, its hot loop on one; a header first."""
    if not found:
        return []
    where = [card.arch for card in found[0].cards]
    shown = SHOWN_ARCH if SHOWN_ARCH in where else where[-1]
    rows = [("occupancy", "threads", *(f"sm_{a}" for a in where), f"hot loop on sm_{shown}")]
    for report in found:
        mixes = [card.mix.text(SHOWN) for card in report.cards if card.arch == shown and card.mix]
        rows.append(
            (
                report.launch.kernel,
                str(report.launch.threads),
                *(f"{c.occupancy.percent:.0f} %" if c.occupancy else "-" for c in report.cards),
                *(mixes or ["-"]),
            )
        )
    return rows
