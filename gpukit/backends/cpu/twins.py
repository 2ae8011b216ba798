"""CPU twins at work at one time: a thread for each, which share the one pool of threads."""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable, Collection, Sequence
from functools import partial
from queue import SimpleQueue

from gpukit.backends.cpu import threads

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
        try:
            for lane in self.lanes[1:]:
                helpers.append(_idle.pop() if _idle else _Helper())
                helpers[-1].start(self._lane, lane)
            contextvars.copy_context().run(self._lane, self.lanes[0])
        except BaseException as error:
            self._fail(-1, error)
        for helper in helpers:
            while not helper.rests():
                try:
                    helper.wait()
                except (
                    BaseException
                ) as error:  # Ctrl-C: the tasks under way end, others do not begin
                    self._fail(-1, error)
        _idle.extend(reversed(helpers))
        error, self.error = self.error, None
        try:
            if error is not None:
                raise error
        finally:
            del error

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
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._resting = threading.Event()
        threading.Thread(target=self._serve, name="gpukit-column", daemon=True).start()

    def start(self, function: Callable[[Sequence[int]], None], lane: Sequence[int]) -> None:
        """Call `function(lane)` in this thread, in a copy of the caller's context."""
        self._resting.clear()
        self._jobs.put(partial(contextvars.copy_context().run, function, lane))

    def rests(self) -> bool:
        """Whether the last function has returned."""
        return self._resting.is_set()

    def wait(self) -> None:
        """Until `rests`."""
        self._resting.wait()

    def _serve(self) -> None:
        while True:
            job = self._jobs.get()
            job()
            del job  # a sleeping thread must not keep the last run's arrays alive
            self._resting.set()


_idle: list[_Helper] = []

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # threads do not survive a fork
