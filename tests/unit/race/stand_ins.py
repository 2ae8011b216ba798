"""A clock that says what it is told, ceilings without a measurement, implementations that lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gpukit.device import Device, get_device
from gpukit.dispatch.primitive import registry
from gpukit.race.contest import Outcome, Race, run
from gpukit.race.peaks import Ceilings
from gpukit.race.problems import problem

CEILINGS = Ceilings(gflops=100, gbps=10, most_gflops=100, most_gbps=20, cache=1 << 10)


class FakeClock:
    """Runs the task once; every run takes `seconds`, or the next of them."""

    def __init__(self, *seconds: float) -> None:
        self.seconds_of = list(seconds)
        self.runs = 0

    def seconds(self, task: Callable[[], Any], before: Callable[[], None] = lambda: None) -> float:
        before()
        task()
        self.runs += 1
        return self.seconds_of[(self.runs - 1) % len(self.seconds_of)]


@contextmanager
def implementation(
    primitive: str, name: str, function: Callable[..., Any], **limits: Any
) -> Iterator[None]:
    """While the block runs, `primitive` has this implementation on the CPU."""
    registry[primitive].on("cpu", name=name, **limits)(function)
    try:
        yield
    finally:
        del registry[primitive]._by_kind["cpu"][name]


def race(
    primitive: str,
    *sizes: int,
    algos: list[str] | None = None,
    clock: FakeClock | None = None,
    ceilings: Ceilings = CEILINGS,
    again: Ceilings | None = None,
    **more: Any,
) -> Outcome:
    """The outcome of a race on the CPU; a second measurement finds `again`."""

    def measure_again(device: Device) -> Ceilings:
        return again or ceilings

    more.setdefault("measure", measure_again)
    outcome = Outcome(ceilings)
    planned = Race(
        [problem(primitive, sizes)],
        get_device("cpu"),
        clock or FakeClock(1.0),
        algos,
        **more,
    )
    run(planned, outcome)
    return outcome
