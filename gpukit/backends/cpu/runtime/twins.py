"""CPU twins at work at one time: a thread for each, which share the one pool of threads."""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable, Collection, Sequence
from functools import partial
from queue import SimpleQueue

from gpukit.backends.cpu.runtime import threads

Work = Callable[[int], None]


def run(lanes: Sequence[Sequence[int]], needs: Sequence[Collection[int]], work: Work) -> None:
    """Call `work(i)` for every task i of `lanes`, each lane's in order and in a thread of its own.

    Task i begins when the tasks `needs[i]`, all below i, are done; lanes are sorted. The threads
    have copies of the caller's context. Raises the error of the first task that fails, as a loop
    over all tasks would; those under way are waited for. Inside a lane, and where the pool has one
    thread, it is that loop.
    """
    count = min(len(lanes), threads.pool().threads)
    if count < 2 or threads.is_shared():
        for i in sorted(i for lane in lanes for i in lane):
            work(i)
    else:
        joined = [sorted(i for lane in lanes[first::count] for i in lane) for first in range(count)]
        _Run(joined, needs, work).run()


class _Run:
    """Lanes of tasks, each in a thread; a task waits for those in other lanes that it needs."""

    def __init__(
        self, lanes: Sequence[Sequence[int]], needs: Sequence[Collection[int]], work: Work
    ) -> None:
        self.lanes = lanes
        self.needs = needs
        self.work = work
        self.shares = threads.Shares(len(lanes))
        self.changed = threading.Condition()
        self.done = [False] * len(needs)
        self.failed = len(needs)  # the first task that failed, so far
        self.error: BaseException | None = None

    def run(self) -> None:
        """All lanes, the first one in this thread; returns or raises when all have ended."""
        helpers: list[_Helper] = []
        ends: list[threading.Event] = []
        try:
            for lane in self.lanes[1:]:
                helpers.append(_helper())
                ends.append(helpers[-1].start(self._lane, lane))
            contextvars.copy_context().run(self._lane, self.lanes[0])
        except BaseException as error:
            self._fail(-1, error)
        for end in ends:
            while not end.is_set():
                try:
                    end.wait()
                except BaseException as error:
                    self._fail(-1, error)  # Ctrl-C: what is under way ends, nothing else begins
        _idle.extend(reversed(helpers))
        first, self.error = self.error, None
        if first is not None:
            try:
                raise first
            finally:
                del first  # it holds this frame

    def _lane(self, tasks: Sequence[int]) -> None:
        threads.share(self.shares)
        try:
            for i in tasks:
                if not self._may_begin(i):
                    return
                try:
                    self.work(i)
                except Exception as error:
                    self._fail(i, error)
                    return
                with self.changed:
                    self.done[i] = True
                    self.changed.notify_all()
        except BaseException as error:
            self._fail(-1, error)
        finally:
            with self.changed:
                self.shares.running -= 1

    def _may_begin(self, i: int) -> bool:
        """Wait for what task i needs; False where an earlier task failed."""
        with self.changed:
            if all(self.done[j] for j in self.needs[i]):
                return i < self.failed
            self.shares.running -= 1
            try:
                while i < self.failed and not all(self.done[j] for j in self.needs[i]):
                    self.changed.wait()
            finally:
                self.shares.running += 1
            return i < self.failed

    def _fail(self, i: int, error: BaseException) -> None:
        with self.changed:
            if i < self.failed:
                self.failed, self.error = i, error
            self.changed.notify_all()


class _Helper:
    """A thread that sleeps between runs; it keeps its work memory (`cpu.memory.scratch`)."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[tuple[Callable[[], None], threading.Event]] = SimpleQueue()
        threading.Thread(target=self._serve, name="gpukit-twin", daemon=True).start()

    def start(
        self, function: Callable[[Sequence[int]], None], lane: Sequence[int]
    ) -> threading.Event:
        """Call `function(lane)` in a copy of this context; the event is set when it returns."""
        end = threading.Event()
        self._jobs.put((partial(contextvars.copy_context().run, function, lane), end))
        return end

    def _serve(self) -> None:
        while True:
            job, end = self._jobs.get()
            job()
            del job  # a sleeping thread must not keep the last run's arrays alive
            end.set()


_idle: list[_Helper] = []


def _helper() -> _Helper:
    try:
        return _idle.pop()
    except IndexError:
        return _Helper()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # threads do not survive a fork
