"""The one pool of threads for CPU work.

The tasks of a job are numbered; every thread takes the next number until none is left, the caller
included. So a job never waits for a thread that is slow to wake: if the caller was faster, the
work is done. Which thread ran a task must never show in the result: whoever splits work into tasks
does so by the shape alone, and a task writes only to its own part.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from contextvars import ContextVar
from queue import SimpleQueue
from typing import Any

from gpukit.core import settings
from gpukit.errors import SettingError

Task = Callable[[int], object]
Ranges = list[tuple[int, int]]

MOST_TASKS = 32
# Elements of a loop bound by memory that are worth a task: waking a sleeping thread takes as long
# as some 50 µs of work.
LIGHT = 400_000


class _Job:
    """One parallel loop; `itertools.count` hands out numbers atomically, without a lock."""

    __slots__ = ("done", "error", "finished", "function", "tasks", "upcoming")

    def __init__(self, tasks: int, function: Task) -> None:
        self.tasks = tasks
        self.function = function
        self.upcoming = itertools.count()
        self.finished = itertools.count(1)
        self.error: BaseException | None = None
        self.done = threading.Lock()
        self.done.acquire()

    def work(self) -> None:
        """Run tasks until none is left; after an error the remaining ones are only counted."""
        tasks, function, upcoming, finished = (
            self.tasks,
            self.function,
            self.upcoming,
            self.finished,
        )
        while True:
            task = next(upcoming)
            if task >= tasks:
                return
            if self.error is None:
                try:
                    function(task)
                except BaseException as error:
                    self.error = error
            if next(finished) == tasks:
                self.done.release()


class ThreadPool:
    """`threads - 1` sleeping workers; the thread that calls `run` is the missing one.

    Fewer where the system has no room for more: no result depends on how many there are.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        for number in range(1, threads):
            try:
                threading.Thread(
                    target=self._serve, name=f"gpukit-cpu-{number}", daemon=True
                ).start()
            except (RuntimeError, MemoryError):
                for _ in range(1, number):
                    self._jobs.put(None)
                raise SettingError(
                    f"{threads} threads cannot be started here, {number} can; set GPUKIT_THREADS "
                    "to fewer"
                ) from None

    def _serve(self) -> None:
        get = self._jobs.get
        while True:
            job = get()
            if job is None:
                return
            job.work()
            del job  # a sleeping worker must not keep the last job's arrays alive

    def run(self, tasks: int, function: Task, most: int | None = None) -> None:
        """Call `function(i)` for every i below `tasks`; return when all calls have returned.

        `most` bounds the threads that do so, the caller's included.
        """
        helpers = min(self.threads if most is None else most, tasks) - 1
        if helpers < 1:
            for task in range(tasks):
                function(task)
            return
        job = _Job(tasks, function)
        for _ in range(helpers):
            self._jobs.put(job)
        job.work()
        job.done.acquire()
        if job.error is not None:
            raise job.error


class Shares:
    """The pool divided among `running` threads that begin jobs at one time."""

    __slots__ = ("running",)

    def __init__(self, running: int) -> None:
        self.running = running


_shares: ContextVar[Shares | None] = ContextVar("gpukit_shares", default=None)


def share(shares: Shares) -> None:
    """From now on jobs of this context use the pool's threads divided by `shares.running`."""
    _shares.set(shares)


def is_shared() -> bool:
    """Whether jobs of this context have a share of the pool only."""
    return _shares.get() is not None


_pool: ThreadPool | None = None
_making = threading.Lock()


def pool() -> ThreadPool:
    """The process's pool, made at the first call with `settings.threads()` threads."""
    global _pool
    if _pool is None:
        with _making:
            if _pool is None:
                _pool = ThreadPool(settings.threads())
    return _pool


def parallel_for(tasks: int, function: Task) -> None:
    """Call `function(i)` for i in range(tasks), on all threads; a single task runs right here.

    An exception of a task is raised here, once the tasks already begun have ended. Dispatch costs
    about 10 µs (measured on 2 Zen 5 cores), so a task should be worth 50 µs or more.
    """
    if tasks == 1:
        function(0)
        return
    threads, shares = _pool or pool(), _shares.get()
    if shares is None:
        threads.run(tasks, function)
    else:
        threads.run(tasks, function, max(1, threads.threads // max(1, shares.running)))


def cuts(units: int, count: int) -> Ranges:
    """`units` in `count` consecutive ranges (first, last) whose lengths differ by at most one."""
    edges = [units * i // count for i in range(count + 1)] if count else []
    return list(itertools.pairwise(edges))


def tasks_of(units: int, work: int, worth: int = LIGHT, most: int = MOST_TASKS) -> Ranges:
    """`units` (elements, lines, images …) in ranges, one a task, `worth` so much of `work` each.

    A single range for what is not worth two threads; none of no units.
    """
    return cuts(units, min(units, max(work // worth, 1), most))


def for_ranges(ranges: Ranges, loop: Callable[..., object], *arguments: Any) -> None:
    """Call `loop(*arguments, first, last)` for each range, on all threads."""
    if len(ranges) == 1:
        loop(*arguments, *ranges[0])
    else:
        parallel_for(len(ranges), lambda i: loop(*arguments, *ranges[i]))


def _forget() -> None:
    # Threads do not survive a fork: the child makes a pool of its own at its first job.
    global _pool, _making
    _pool = None
    _making = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
