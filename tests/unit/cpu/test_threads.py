"""The thread pool: every task once, errors reach the caller, forks and threads do no harm."""

import os
import subprocess
import sys
import threading

import pytest

from gpukit.backends.cpu.runtime import threads
from gpukit.backends.cpu.runtime.threads import ThreadPool, cuts


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("tasks", [0, 1, 2, 3, 100])
def test_every_task_runs_once(workers, tasks):
    seen: list[int] = []
    ThreadPool(workers).run(tasks, seen.append)
    assert sorted(seen) == list(range(tasks))


def test_tasks_overlap():
    meeting = threading.Barrier(2, timeout=10)
    ThreadPool(2).run(2, lambda _: meeting.wait())


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_reaches_the_caller_and_the_pool_survives(workers):
    pool = ThreadPool(workers)

    def fail(i: int) -> None:
        if i == 3:
            raise KeyError("task 3")

    with pytest.raises(KeyError, match="task 3"):
        pool.run(10, fail)
    seen: list[int] = []
    pool.run(10, seen.append)
    assert len(seen) == 10


def test_a_task_may_start_a_job():
    seen: list[int] = []
    threads.parallel_for(4, lambda i: threads.parallel_for(3, lambda j: seen.append(3 * i + j)))
    assert sorted(seen) == list(range(12))


def test_several_threads_may_use_the_pool_at_once():
    results: list[int] = []

    def use(number: int) -> None:
        for _ in range(50):
            seen: list[int] = []
            threads.parallel_for(7, seen.append)
            assert sorted(seen) == list(range(7))
        results.append(number)

    users = [threading.Thread(target=use, args=(i,)) for i in range(6)]
    for user in users:
        user.start()
    for user in users:
        user.join(30)
    assert sorted(results) == list(range(6))


@pytest.mark.parametrize(("units", "count"), [(0, 0), (1, 1), (10, 3), (7, 7), (100, 32)])
def test_cuts_cover_everything_evenly(units, count):
    ranges = cuts(units, count)
    assert [i for a, b in ranges for i in range(a, b)] == list(range(units))
    lengths = [b - a for a, b in ranges]
    assert not lengths or max(lengths) - min(lengths) <= 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_makes_its_own_pool():
    code = """
import os, sys
import numpy as np
from gpukit import primitives as p
def work():
    x = np.ones((16, 28, 28, 8), np.float32)
    w = np.ones((3, 3, 8, 32), np.float32)
    conv = p.Conv(padding=((1, 1), (1, 1)))
    return float(p.conv2d(x, w, conv=conv).sum())
before = work()
child = os.fork()
if child == 0:
    os._exit(0 if work() == before else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "GPUKIT_THREADS": "3"},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0


def test_dispatch_is_cheap():
    """A job of two empty tasks starts no thread, waits for no clock and calls few functions."""
    pool = ThreadPool(2)
    called: list[str] = []

    def note(frame, event, argument):
        if event in ("call", "c_call"):
            called.append(frame.f_code.co_name if event == "call" else argument.__name__)

    sys.setprofile(note)
    try:
        pool.run(2, int)
    finally:
        sys.setprofile(None)
    assert not {"start", "sleep"} & set(called)
    assert len(called) < 30, called
