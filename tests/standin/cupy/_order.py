"""Which work of the streams is ordered, and an error for memory that two use without an order.

Work is done when it is given to a stream. So that missing waits show nevertheless, every stream
keeps a clock: for each stream the number of its last piece of work that surely comes before. Events
carry clocks, waits join them, and so does the host when it waits. Memory remembers who wrote it
last and who has read it since; whoever comes to it must know of them. The null stream of a card
waits for the blocking streams of that card, and they for it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

Clock = dict[Any, int]


class Race(RuntimeError):
    """Two streams use the same memory, and nothing says which comes first."""


def join(clock: Clock, other: Clock) -> None:
    """`clock` knows what `other` knows."""
    for line, time in other.items():
        if clock.get(line, 0) < time:
            clock[line] = time


def knows(clock: Clock, other: Clock) -> bool:
    """Whether all that `other` says is in `clock`."""
    return all(clock.get(line, 0) >= time for line, time in other.items())


@dataclass(eq=False)
class Line:
    """The work of one stream of one card, in its order."""

    device: int
    name: str
    blocking: bool = True
    clock: Clock = field(default_factory=dict)
    count: int = 0

    def __repr__(self) -> str:
        return f"{self.name} of cuda:{self.device}"


lock = threading.RLock()
host: Clock = {}
_nulls: dict[int, Line] = {}
_lines: list[Line] = []
_late: list[str] = []  # what came of freed memory: told at the next occasion


def null(device: int) -> Line:
    """The null stream of a card."""
    with lock:
        if device not in _nulls:
            _nulls[device] = Line(device, "the null stream")
        return _nulls[device]


def new(device: int, *, blocking: bool) -> Line:
    """Another stream of a card."""
    with lock:
        line = Line(device, f"stream {len(_lines) + 1}", blocking)
        _lines.append(line)
        return line


def work(line: Line) -> None:
    """Another piece of work on `line`: what it comes after, by the streams' own rules."""
    with lock:
        if _late:
            raise Race(_late.pop())
        _before(line, line.clock)
        line.count += 1
        line.clock[line] = line.count


def _before(line: Line, clock: Clock) -> None:
    # What the next work of `line` comes after, by what the host knows and the null stream's rule.
    join(clock, host)
    if line is _nulls.get(line.device):
        for other in _lines:
            if other.blocking and other.device == line.device:
                join(clock, other.clock)
    elif line.blocking:
        join(clock, null(line.device).clock)


def wait(line: Line) -> None:
    """The host waits for all that `line` has."""
    with lock:
        join(host, line.clock)


def wait_for_device(device: int) -> None:
    """The host waits for all streams of a card."""
    with lock:
        for line in (null(device), *_lines):
            if line.device == device:
                join(host, line.clock)


class Uses:
    """Who used a piece of memory: the last write, and the reads since."""

    __slots__ = ("reads", "write")

    def __init__(self) -> None:
        self.write: tuple[Line, int] | None = None
        self.reads: Clock = {}

    def use(self, line: Line, what: str, *, write: bool) -> None:
        """The work that `line` has now; Race if an earlier one's order is left open."""
        with lock:
            before = [self.write] if self.write else []
            if write:
                before += self.reads.items()
            for other, time in before:
                if line.clock.get(other, 0) < time:
                    verb = "wrote" if self.write == (other, time) else "reads"
                    raise Race(
                        f"{what} on {line} uses memory that {other} {verb}, and does not wait for "
                        "it: record an event there, and wait for it here"
                    )
            if write:
                self.write, self.reads = (line, line.count), {}
            else:
                self.reads[line] = line.count

    def freed(self, home: Line, size: int) -> None:
        """The memory goes back to the pool of `home`, whose next work may get it at once."""
        with lock:
            known: Clock = dict(home.clock)
            _before(home, known)
            used = dict(self.reads)
            if self.write:
                join(used, dict([self.write]))
            for line, time in used.items():
                if known.get(line, 0) < time:
                    _late.append(
                        f"an array of {size} bytes of {home} was freed while {line} uses it: keep "
                        "it until an event says that the work is done"
                    )
                    return
