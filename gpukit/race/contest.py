"""The race: who takes part, proof first, then turns, then what the times mean."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from gpukit.device import Device
from gpukit.dispatch.declaration import Problem
from gpukit.dispatch.precision import FULL
from gpukit.dispatch.preference import no_fallbacks
from gpukit.dispatch.primitive import REFERENCE, Implementation, registry
from gpukit.errors import SettingError
from gpukit.launch.numba import card_problem
from gpukit.race import ceilings as of_device
from gpukit.race.ceilings import Measure
from gpukit.race.peaks import MARGIN, Ceilings
from gpukit.race.problems import problem as sized
from gpukit.race.proof import Proof
from gpukit.race.rivals import Rival, RivalError

VOID_SPREAD = 0.20
# An entrant's turns go on until it has had so much time, within these numbers of rounds; a slow
# one needs fewer.
LEAST, MOST, SECONDS = 5, 51, 0.5
SLOW_LEAST, SLOW_SECONDS = 3, 10.0
AGAIN = 5  # measurements of the ceilings before a result is called impossible

Step = Callable[[float, str], None]
Turn = Callable[[], float]


class Clock(Protocol):
    """Times one run of a task."""

    def seconds(self, task: Callable[[], Any], before: Callable[[], None] = lambda: None) -> float:
        """Of one run; `before` it, and before any other that it needs, a call that does not
        count."""


@dataclass(frozen=True)
class Row:
    """How one entrant did on one problem.

    Times in milliseconds, medians; `spread` the interquartile range over the median; `ratio`s are
    its time over that of gpukit's default, and over the best rival's: below 1 it is faster. Shares
    are of the device's ceilings and of the floor, 1 for all of it. `precision`: what it keeps of
    the factors of products, to whose bounds it was held.
    """

    primitive: str
    layer: str
    sizes: str
    count: int
    name: str
    rival: bool
    default: bool
    variant: str
    ms: float
    spread: float
    rounds: int
    ratio_to_default: float | None
    ratio_to_rival: float | None
    gflops: float
    gbps: float
    in_cache: bool
    void: bool
    share_of_gflops: float = 0.0
    share_of_gbps: float = 0.0
    floor_ms: float = 0.0
    share_of_floor: float = 0.0
    precision: str = FULL.name


@dataclass(frozen=True)
class Note:
    """Why an entrant has no row."""

    primitive: str
    layer: str
    name: str
    why: str


@dataclass
class Outcome:
    """Rows so far, who was refused (wrong, or faster than can be), who was left out."""

    ceilings: Ceilings
    rows: list[Row] = field(default_factory=list)
    refused: list[Note] = field(default_factory=list)
    left_out: list[Note] = field(default_factory=list)
    layers: dict[str, int] = field(default_factory=dict)  # how many of each primitive were to be
    now: str = ""  # who runs, and where

    @property
    def ok(self) -> bool:
        """Whether there are times and nobody was refused."""
        return bool(self.rows) and not self.refused


@dataclass(frozen=True)
class Race:
    """What is raced, where, by whom, and with which clock; `algos` None: every implementation."""

    problems: Sequence[Problem]
    device: Device
    clock: Clock
    algos: Sequence[str] | None = None
    rivals: dict[str, Rival] = field(default_factory=dict)
    measure: Measure | None = None
    seconds: float = math.inf  # after which no problem is begun

    def __post_init__(self) -> None:
        of_device.side(self.device)  # on emu nothing is raced
        primitives = [registry[name] for name in {p.primitive for p in self.problems}]
        kind = self.device.kind
        for name in self.algos or ():
            # An installed plug-in's is loaded when it is looked for.
            if not any(primitive.find(kind, name) for primitive in primitives):
                known = sorted({algo for p in primitives for algo in p.implementations(kind)})
                raise SettingError(
                    f"there is no implementation {name!r} on {kind}; use {', '.join(known)}"
                )


def run(race: Race, outcome: Outcome, step: Step = lambda amount, what: None) -> None:
    """Race problem by problem; `outcome` grows, so that what is done survives an interruption.

    `step` is told how much of `work` was done, and what comes now.
    """
    for problem in race.problems:
        outcome.layers[problem.primitive] = outcome.layers.get(problem.primitive, 0) + 1
    until = time.monotonic() + race.seconds
    with race.device.current(), no_fallbacks():
        for problem in race.problems:
            if time.monotonic() > until:
                why = f"no time left after {race.seconds:.0f} s"
                outcome.left_out.append(Note(problem.primitive, problem.layer, "everybody", why))
                step(sum(_estimate(race, problem, outcome.ceilings)), f"{problem.layer}: left out")
                continue
            _solve(race, problem, outcome, step)
            outcome.rows = [_scaled(row, outcome.ceilings) for row in outcome.rows]


def work(race: Race, found: Ceilings) -> float:
    """The whole race in the unit of `step`: about a second on an idle device."""
    return sum(sum(_estimate(race, problem, found)) for problem in race.problems)


def _estimate(race: Race, problem: Problem, found: Ceilings) -> tuple[float, float]:
    """Of the proof, and of the turns."""
    found_here = registry[problem.primitive].implementations(race.device.kind)
    count = len(found_here) if race.algos is None else 1 + len(race.algos)
    count += len(race.rivals)
    floor = found.floor(problem)
    return floor * (15 + 6 * count), count * max(SECONDS, 4 * LEAST * floor)


def _solve(race: Race, problem: Problem, outcome: Outcome, step: Step) -> None:
    proving, timing = _estimate(race, problem, outcome.ceilings)

    def passes(name: str, why: str, notes: list[Note] = outcome.refused) -> bool:
        """Whether nothing is said against an entrant; else it is noted."""
        if why:
            notes.append(Note(problem.primitive, problem.layer, name, why))
        return not why

    def now(name: str, what: str = "proof") -> None:
        outcome.now = f"{name} on {problem.layer} ({problem.primitive}): {what}"
        step(0, outcome.now)

    step(0, f"{problem.layer}: proof")
    proof = Proof(problem, race.device)
    default, implementations = _entrants(race, problem, proof, outcome)
    precision = {name: one.precision for name, one in implementations.items()}
    calls = {}
    for name in implementations:
        now(name)
        call = _call(problem, name)
        if passes(name, proof.check(call, precision[name])):
            view = "its result is a view of its argument: nothing moves" if proof.viewed else ""
            if passes(name, view, outcome.left_out):
                calls[name] = call
    proof.fill()
    turns: dict[str, Turn] = {}
    for name, call in calls.items():
        now(name)
        if passes(name, proof.check(call, precision[name])):
            turns[name] = _turn(race, proof, call)
    variants = {name: name for name in turns}
    for name, rival in race.rivals.items():
        now(name)
        try:
            rival.prepare(problem)
            if passes(name, proof.compare(rival.result())):
                variants[name], turns[name] = rival.fastest(), rival.seconds
        except RivalError as error:
            passes(name, str(error), outcome.left_out)
        except RuntimeError as error:  # of PyTorch in this process
            passes(name, f"PyTorch cannot: {error}", outcome.left_out)
    step(proving, f"{problem.layer}: {', '.join(turns)}")
    times, failures = alternate(
        turns,
        lambda share: step(share * timing, outcome.now),
        lambda name: now(name, "turns"),
    )
    for name, failure in failures.items():
        passes(name, failure)
    if times.keys() & calls.keys():
        proof.settle()
    for name, seconds in list(times.items()):
        now(name)
        wrong = ""
        if name in calls:
            wrong = proof.last(calls[name], race.clock, precision[name])
            wrong = wrong and f"after {len(seconds)} runs {wrong}"
        if not passes(name, wrong or _beyond(race, problem, name, seconds, outcome)):
            del times[name]
    outcome.rows += _rows(race, problem, default, variants, times, outcome.ceilings)
    outcome.now = ""


def _entrants(
    race: Race, problem: Problem, proof: Proof, outcome: Outcome
) -> tuple[str, dict[str, Implementation]]:
    """The default's name, and who takes part: those asked for that take such a call."""
    primitive = registry[problem.primitive]
    implementations = primitive.implementations(race.device.kind)
    args, settings = problem.passed(proof.arrays), problem.settings
    default = primitive.choose(race.device, None, args, settings).name
    known = [name for name in implementations if name != REFERENCE]
    found = {default: implementations[default]}
    for name in known if race.algos is None else race.algos:
        why = ""
        if name not in implementations:
            why = f"{problem.primitive} has no such implementation"
        elif not implementations[name].takes(args, settings):
            why = "it does not take such a call"
        elif not implementations[name].emulated and name.startswith("numba"):
            why = card_problem()
        if why:
            outcome.left_out.append(Note(problem.primitive, problem.layer, name, why))
        else:
            found[name] = implementations[name]
    return default, found


def _call(problem: Problem, name: str) -> Callable[..., Any]:
    primitive = registry[problem.primitive]
    return lambda *arrays, **settings: primitive(*problem.passed(arrays), algo=name, **settings)


def _turn(race: Race, proof: Proof, call: Callable[..., Any]) -> Turn:
    return lambda: race.clock.seconds(lambda: call(*proof.arrays, **proof.settings), proof.change)


def alternate(
    turns: dict[str, Turn],
    step: Callable[[float], None] = lambda share: None,
    begin: Callable[[str], None] = lambda name: None,
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Round after round, each entrant one turn; those who have had enough drop out.

    -> seconds by name, and why a turn failed by name. `step` is told shares that add up to 1, and
    `begin` who runs now, before it does: it may never come back.
    """
    times: dict[str, list[float]] = {name: [] for name in turns}
    failures: dict[str, str] = {}
    ahead = list(turns)
    shown = 0.0
    while ahead:
        ahead = [*ahead[1:], ahead[0]]  # nobody always runs after the same one
        for name in ahead:
            begin(name)
            try:
                times[name].append(turns[name]())
            except (Exception, SystemExit) as error:  # a plug-in's fault, as in the proof
                failures[name] = f"{type(error).__name__}: {error}"
                del times[name]
        ahead = [name for name in ahead if name in times and not _enough(times[name])]
        share = sum(_progress(times[name]) if name in ahead else 1.0 for name in turns)
        share /= len(turns)
        step(max(share - shown, 0.0))
        shown = max(share, shown)
    return times, failures


def _enough(times: list[float]) -> bool:
    total = sum(times)
    if len(times) >= SLOW_LEAST and total >= SLOW_SECONDS:
        return True
    return len(times) >= MOST or (len(times) >= LEAST and total >= SECONDS)


def _progress(times: list[float]) -> float:
    """How much of its rounds an entrant has behind it, at least."""
    return max(len(times) / MOST, min(len(times) / LEAST, sum(times) / SECONDS) * 0.99)


def spread(times: Sequence[float]) -> float:
    """Interquartile range over the median."""
    quarters = statistics.quantiles(times, n=4)
    return (quarters[2] - quarters[0]) / quarters[1] if quarters[1] > 0 else math.inf


def _beyond(race: Race, problem: Problem, name: str, times: list[float], outcome: Outcome) -> str:
    """Why these times cannot be.

    Measured again first, because the accused may be right: once where it only passes a ceiling,
    up to `AGAIN` times before it is refused.
    """
    seconds = statistics.median(times)
    for tries in range(AGAIN):
        margin = MARGIN if tries else 0.0
        if not outcome.ceilings.impossible(problem, name, seconds, margin):
            return ""
        outcome.ceilings = of_device.measure_again(race.device, race.measure, outcome.ceilings)
    why = outcome.ceilings.impossible(problem, name, seconds)
    return f"impossible: {why}" if why else ""


def _rows(
    race: Race,
    problem: Problem,
    default: str,
    variants: dict[str, str],
    times: dict[str, list[float]],
    found: Ceilings,
) -> Iterable[Row]:
    """Without the shares of ceilings, which the caller adds."""
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    implementations = registry[problem.primitive].implementations(race.device.kind)
    best_rival = min((medians[name] for name in medians if name in race.rivals), default=None)
    ours = medians.get(default)
    for name, seconds in medians.items():
        if seconds <= 0:  # below the clock's step, so not even a ratio can be said
            continue
        scatter = spread(times[name])
        row = Row(
            primitive=problem.primitive,
            layer=problem.layer,
            sizes=problem.form,
            count=problem.count,
            name=name,
            rival=name in race.rivals,
            default=name == default,
            variant=variants[name],
            ms=seconds * 1e3,
            spread=scatter,
            rounds=len(times[name]),
            ratio_to_default=seconds / ours if ours else None,
            ratio_to_rival=seconds / best_rival if best_rival else None,
            gflops=problem.flop / 1e9 / seconds,
            gbps=problem.bytes / 1e9 / seconds,
            in_cache=found.in_cache(problem),
            void=scatter > VOID_SPREAD,
            precision=FULL.name if name in race.rivals else implementations[name].precision.name,
        )
        yield row


def _scaled(row: Row, found: Ceilings) -> Row:
    """The row with shares of these ceilings, which may have been measured again since."""
    floor = found.floor(sized(row.primitive, tuple(map(int, row.sizes.split(",")))))
    return replace(
        row,
        share_of_gflops=row.gflops / found.gflops,
        share_of_gbps=row.gbps / found.gbps,
        floor_ms=floor * 1e3,
        share_of_floor=floor * 1e3 / row.ms,
    )


@dataclass(frozen=True)
class Mean:
    """Geometric means of one entrant over its `rows` that are not void, `of` so many layers.

    `network_ms`: the medians times how often the network has each layer, None where one is missing.
    """

    primitive: str
    name: str
    rows: int
    of: int
    ratio_to_default: float | None
    ratio_to_rival: float | None
    share_of_floor: float | None
    network_ms: float | None


def means(outcome: Outcome) -> list[Mean]:
    """One for each primitive and entrant, in the order of the rows."""
    rows, found = outcome.rows, []
    for primitive, name in dict.fromkeys((r.primitive, r.name) for r in rows):
        good = [r for r in rows if (r.primitive, r.name) == (primitive, name) and not r.void]
        # A ratio is as void as either side of it.
        void = [r for r in rows if r.primitive == primitive and r.void]
        defaults = {r.layer for r in void if r.default}
        rivals = {r.layer for r in void if r.rival and r.ratio_to_rival == 1}
        layers = outcome.layers[primitive]
        found.append(
            Mean(
                primitive,
                name,
                len(good),
                layers,
                _geometric([r.ratio_to_default for r in good if r.layer not in defaults]),
                _geometric([r.ratio_to_rival for r in good if r.layer not in rivals]),
                _geometric([r.share_of_floor for r in good]),
                sum(r.ms * r.count for r in good) if len(good) == layers else None,
            )
        )
    return found


def _geometric(values: Sequence[float | None]) -> float | None:
    known = [math.log(v) for v in values if v]
    return math.exp(sum(known) / len(known)) if known else None
