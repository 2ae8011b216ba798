"""How the kernels of usual calls fit on every card: occupancy, and what hot loops are made of."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from gpukit.errors import GpukitError
from gpukit.verify import kernel_report as look
from gpukit.verify.kernel_report import OnCard
from gpukit.verify.launches import Launch, launches

SHOWN = 4  # kinds of instructions in a row
TELLING = 90  # the card whose instructions are shown, if it is among them


@dataclass(frozen=True)
class Fit:
    """A launch, and its kernel compiled for each card."""

    launch: Launch
    cards: tuple[OnCard, ...]


def fits(
    names: Sequence[str], plugins: Sequence[str], architectures: Sequence[int]
) -> tuple[list[Fit], str]:
    """Of every launch of usual calls of the targets `names`, or of all that `plugins` register.

    A kernel that is launched with the same blocks again comes once. The text says why there are
    none, where such a call fails.
    """
    if not architectures or not (names or plugins):
        return [], ""
    try:
        found = launches(names, plugins, blocks=1)
    except GpukitError as error:
        return [], f"occupancy and hot loops: {error}"
    once = {(one.kernel, one.file, one.block, one.shared): one for one in reversed(found)}
    kernels = [*reversed(once.values())]
    with ThreadPoolExecutor(2) as pool:
        work = [(one, arch) for one in kernels for arch in architectures]
        cards = iter([*pool.map(lambda pair: look.on_card(*pair), work)])
    return [Fit(one, tuple(next(cards) for _ in architectures)) for one in kernels], ""


def table(found: Sequence[Fit]) -> list[tuple[str, ...]]:
    """Rows: a kernel, its occupancy on each card, its hot loop on one; the first is the head."""
    if not found:
        return []
    where = [card.arch for card in found[0].cards]
    telling = TELLING if TELLING in where else where[-1]
    rows = [("occupancy", "threads", *(f"sm_{a}" for a in where), f"hot loop on sm_{telling}")]
    for fit in found:
        mixes = [card.mix.text(SHOWN) for card in fit.cards if card.arch == telling and card.mix]
        rows.append(
            (
                fit.launch.kernel,
                str(fit.launch.threads),
                *(f"{c.occupancy.percent:.0f} %" if c.occupancy else "-" for c in fit.cards),
                *(mixes or ["-"]),
            )
        )
    return rows


def as_json(fit: Fit) -> dict[str, Any]:
    """All figures of a launch but what it asks memory for, as plain values."""
    found = look.as_json(fit.launch, fit.cards)
    del found["accesses"], found["traced"]  # of `kernels show`
    return found
