"""Occupancy and instruction mix for each architecture."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from gpukit.errors import GpukitError
from gpukit.verify import kernel_report
from gpukit.verify.kernel_report import CompiledKernel
from gpukit.verify.launches import Launch, launches

SHOWN = 4  # kinds of instructions in a row
SHOWN_ARCH = 90  # whose instructions are shown, if it is among the architectures


@dataclass(frozen=True)
class OccupancyReport:
    """A launch, and its kernel compiled for each architecture."""

    launch: Launch
    cards: tuple[CompiledKernel, ...]


def occupancy_reports(
    names: Sequence[str], plugins: Sequence[str], architectures: Sequence[int]
) -> tuple[list[OccupancyReport], str]:
    """One report for each launch of typical calls of the targets `names`, with `plugins` loaded.

    Launches of one kernel with the same block size count once. The text says why there are none,
    where such a call fails.
    """
    if not (names and architectures):
        return [], ""
    try:
        found = launches(names, plugins, blocks=1)
    except GpukitError as error:
        return [], f"occupancy and hot loops: {error}"
    once = {(one.kernel, one.file, one.block, one.shared): one for one in reversed(found)}
    kernels = [*reversed(once.values())]
    with ThreadPoolExecutor(2) as pool:
        work = [(one, arch) for one in kernels for arch in architectures]
        cards = iter([*pool.map(lambda pair: kernel_report.compiled_for(*pair), work)])
    return [OccupancyReport(one, tuple(next(cards) for _ in architectures)) for one in kernels], ""


def table(found: Sequence[OccupancyReport]) -> list[tuple[str, ...]]:
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


def as_json(report: OccupancyReport) -> dict[str, Any]:
    """All figures of a launch but its memory accesses, as plain values."""
    found = kernel_report.as_json(report.launch, report.cards)
    del found["accesses"], found["traced"]  # of `kernels show`
    return found
