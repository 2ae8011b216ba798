"""Worker processes that decode pictures into shared memory.

One thread here feeds each worker: two tasks at a time, so that it has the next one when it is done.
Whichever side is killed, the other one sees its pipe end.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukit.core.process import WorkerProcess
from gpukit.data.decode import Bad, Decoder
from gpukit.data.folder import Items
from gpukit.data.shared import IDLE, Memory, unnamed_file, write_table
from gpukit.errors import DataError, SettingError, WorkerError

_WORKER = "gpukit.data.worker"
_AT_ONCE = 2  # tasks that a worker has: one at work, one in its pipe
_LARGEST_TASK = 16  # images
_TICK = 1.0  # seconds
# Seconds, counted while this process runs, after which a worker that stands still at one picture is
# given up: one that someone stopped, or that waits for a disk or a network.
_STOPPED, _STILL = 5, 60
_FOR_THE_PARENT = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))


@dataclass(eq=False)
class Job:
    """A batch that is being read into a slot."""

    slot: int
    count: int
    left: int = 0
    answers: dict[int, dict[str, Any]] = field(default_factory=dict)


_Task = tuple[Job, dict[str, Any]]  # and what `worker.Worker.read` takes


class _Crew:
    """What the threads that feed workers share."""

    def __init__(self, processes: list[WorkerProcess], memory: Memory) -> None:
        self.processes, self.memory = processes, memory
        self.changed = threading.Condition()
        self.queue: deque[_Task] = deque()
        self.lost: tuple[int, int] | None = None  # the worker that ended, the image it was at
        self.trouble = ""  # what is wrong with it, where it did not end
        self._busy = [0] * len(processes)  # tasks that each was given
        self._seen: dict[int, tuple[tuple[int, int], int]] = {}
        self.closed = False
        self._owner = os.getpid()

    @property
    def ours(self) -> bool:
        """Whether this process started them; in a fork of it the threads are missing, and a lock
        may be held by one of those for ever."""
        return os.getpid() == self._owner

    def serve(self, number: int, settings: dict[str, Any]) -> None:
        """Feed one worker until it or all of this ends."""
        given: deque[_Task] = deque()
        problem = ""
        # ValueError: something else was printed where its answers come.
        with suppress(OSError, ValueError), self.processes[number] as process:
            answer = process.ask("prepare", number=number, **settings)
            problem = (answer or {}).get("error", "")
            while answer is not None and not problem:
                for task in self._next(_AT_ONCE - len(given), wait=not given):
                    given.append(task)
                    self._busy[number] += 1
                    process.order("read", **task[1])
                if not given:
                    return
                answer = process.reply()
                if answer is not None:
                    job, order = given.popleft()
                    with self.changed:
                        self._busy[number] -= 1
                        job.answers[order["first"]] = answer
                        job.left -= 1
                        self.changed.notify_all()
        with self.changed:
            if self.lost is None and not self.closed:
                self.lost = number, self.memory.at(number)
                self.trouble = f"cannot begin ({problem})" if problem else ""
            self.changed.notify_all()

    def _next(self, most: int, wait: bool) -> list[_Task]:
        """Up to `most` tasks; where `wait`, at least one, unless all is over."""
        with self.changed:
            while wait and not self.queue and not self.closed:
                self.changed.wait()
            if self.closed:
                return []
            return [self.queue.popleft() for _ in range(min(most, len(self.queue)))]

    def wait(self, done: Callable[[], bool]) -> None:
        """Wait, holding `changed`, until all is `done`, a worker is lost, or all is over."""
        self._seen = {}
        while not done() and self.lost is None and not self.closed:
            if not self.changed.wait(_TICK):
                self._look_for_still_ones()

    def _look_for_still_ones(self) -> None:
        # A worker stands still where nothing of it has changed for so many ticks: time in which
        # this process is stopped itself, and its workers perhaps with it, does not count.
        for number, process in enumerate(self.processes):
            now = (self.memory.at(number), self._busy[number])
            before, ticks = self._seen.get(number, (now, 0))
            ticks = ticks + 1 if now == before and now[1] else 0
            self._seen[number] = now, ticks
            stopped = ticks >= _STOPPED / _TICK and _is_stopped(process.pid)
            if stopped or ticks >= _STILL / _TICK:
                seconds = round(ticks * _TICK)
                self.trouble = "was stopped" if stopped else f"has stood still for {seconds} s"
                self.lost = number, now[0]
                return

    def end(self) -> None:
        """End the workers; the threads end with them."""
        if not self.ours:
            return
        with self.changed:
            self.closed = True
            self.queue.clear()
            self.changed.notify_all()
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.code  # noqa: B018  (waits for its end)


class Workers:
    """Processes that read batches of pictures into slots.

    `slots` batches of up to `batch_size` pictures are read at a time. Raises `SettingError` where
    worker processes cannot be had.
    """

    def __init__(
        self, items: Items, decoder: Decoder, workers: int, batch_size: int, slots: int
    ) -> None:
        if os.name != "posix":
            raise SettingError(f"workers={workers}: worker processes need POSIX; use workers=0")
        self._items, self._views = items, decoder.augment.views
        self._share = max(1, min(_LARGEST_TASK, -(-batch_size // (2 * workers))))
        self._free = list(range(slots))
        layout = (workers, slots, batch_size * self._views, decoder.size)
        opened: list[int] = []
        processes: list[WorkerProcess] = []
        try:
            for _ in range(2):
                opened.append(unnamed_file())
            write_table(opened[1], items)
            memory = Memory(opened[0], *layout)
            settings = {
                "memory": opened[0],
                "table": opened[1],
                "layout": layout,
                "augment": decoder.augment.config(),
                "known": list(decoder.known.items()),
                **{
                    name: getattr(decoder, name)
                    for name in ("size", "square", "seed", "skip", "remember", "levels", "drop")
                },
            }
            for number in range(workers):
                memory.set_at(number, IDLE)
                processes.append(_start(opened))
        except OSError as error:
            for process in processes:
                process.close()
            raise WorkerError(
                f"{workers} worker processes cannot be started ({error.strerror or error}); "
                "use fewer --workers"
            ) from error
        finally:
            for fd in opened:
                os.close(fd)
        self._crew = _Crew(processes, memory)
        self._end = weakref.finalize(self, self._crew.end)
        for number in range(workers):
            threading.Thread(
                target=self._crew.serve,
                args=(number, settings),
                name=f"worker {number}",
                daemon=True,
            ).start()

    @property
    def pids(self) -> list[int]:
        """The processes' numbers."""
        return [process.pid for process in self._crew.processes]

    @property
    def free(self) -> int:
        """Slots that no batch is in."""
        return len(self._free)

    def submit(self, epoch: int, indices: NDArray[np.int64]) -> Job:
        """Have the pictures `indices` read into a free slot."""
        self._check()
        job = Job(self._free.pop(), len(indices))
        orders = [
            {
                "epoch": epoch,
                "slot": job.slot,
                "first": first,
                "indices": indices[first : first + self._share].tolist(),
            }
            for first in range(0, len(indices), self._share)
        ]
        with self._crew.changed:
            job.left = len(orders)
            self._crew.queue.extend((job, order) for order in orders)
            self._crew.changed.notify_all()
        return job

    def collect(self, job: Job) -> tuple[NDArray[np.uint8], NDArray[np.float32], list[Bad]]:
        """(images, shifts, what was bad) of a batch, copies, when it is read; its slot is free.

        Raises `DataError` where a picture cannot be read and `WorkerError` where a worker ended.
        """
        crew = self._crew
        self._check()
        with crew.changed:
            crew.wait(lambda: not job.left)
            if job.left:
                raise self._lost()
        self._free.append(job.slot)
        bad: list[Bad] = []
        for _, answer in sorted(job.answers.items()):
            if "error" in answer:
                raise DataError(answer["error"])
            if "fault" in answer:
                raise RuntimeError(f"a worker process failed:\n{answer['fault']}")
            bad.extend(Bad(*entry) for entry in answer["bad"])
        rows = job.count * self._views
        images, shifts = crew.memory.slot(job.slot)
        return images[:rows].copy(), shifts[:rows].copy(), bad

    def drop(self, jobs: Sequence[Job]) -> None:
        """Give up batches that nobody will collect; returns when their slots are free."""
        crew = self._crew
        if not crew.ours:
            return
        with crew.changed:
            for task in [task for task in crew.queue if task[0] in jobs]:
                crew.queue.remove(task)
                task[0].left -= 1
            crew.wait(lambda: not any(job.left for job in jobs))
        self._free.extend(job.slot for job in jobs)

    def close(self) -> None:
        """End the processes and wait for them."""
        self._end()

    def _check(self) -> None:
        if not self._crew.ours:
            raise WorkerError("a fork cannot use the workers of its parent; make another feed")

    def _lost(self) -> WorkerError:
        if self._crew.lost is None:
            return WorkerError("the worker processes were ended; start another epoch")
        number, index = self._crew.lost
        process = self._crew.processes[number]
        how, hint = self._crew.trouble, "; see what holds it up"
        if index != IDLE:
            hint += ", or leave the picture out"
        if not how:
            code = process.code
            how = f"ended with code {code}"
            if code < 0:
                known = -code in list(signal.Signals)
                how = f"was killed by {signal.Signals(-code).name if known else -code}"
            hint = "; if memory ran out, use fewer --workers" if code == -9 else ""
        at = "while it had nothing to do" if index == IDLE else f"at {self._items.path(index)}"
        return WorkerError(f"worker {number} (process {process.pid}) {how} {at}{hint}")


def _start(descriptors: Sequence[int]) -> WorkerProcess:
    # Signals that are sent to all processes of a job are for the one that trains, which ends the
    # workers when it is done: a worker inherits that they are blocked. The paths of imports,
    # because the folder of a script is not in those of another process.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_PARENT)
    try:
        paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
        return WorkerProcess(_WORKER, variables=paths, descriptors=descriptors, shown=True)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _is_stopped(pid: int) -> bool:
    """Whether a signal has stopped the process; False where the system does not tell."""
    try:
        # The name, in brackets, may hold anything.
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1] in (b"T", b"t")
    except OSError:
        return False
