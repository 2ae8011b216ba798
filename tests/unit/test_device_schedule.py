"""Several devices at once: the order in which work is begun, and CPU twins in a thread each."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import os
import random
import subprocess
import sys
import threading
import weakref

import pytest

from gpukit.autograd.schedule import interleaved, run
from gpukit.backends.cpu.runtime import threads
from gpukit.backends.cpu.runtime.threads import ThreadPool
from gpukit.device import Device, get_device

A, B, C = (get_device(name) for name in ("cpu", "cpu:1", "cpu:2"))
WAIT = 20  # seconds after which a test that hangs fails


@pytest.fixture(autouse=True)
def pool(monkeypatch):
    """As many threads as the tests have twins, whatever the machine has."""
    monkeypatch.setattr(threads, "_pool", ThreadPool(3))


def random_graph(dice: random.Random) -> tuple[list[Device], list[set[int]]]:
    count = dice.randrange(1, 25)
    devices = [dice.choice((A, B, C)) for _ in range(count)]
    needs = [
        {dice.randrange(i) for _ in range(dice.randrange(3))} if i else set() for i in range(count)
    ]
    return devices, needs


def test_two_columns_take_turns_whichever_was_written_first():
    #  0 → 1 → 2 → 6 on A, 3 → 4 → 5 on B, and 6 needs 5
    devices = [A, A, A, B, B, B, A]
    needs = [[], [0], [1], [], [3], [4], [2, 5]]
    assert interleaved(devices, needs) == [0, 3, 1, 4, 2, 5, 6]


def test_what_the_other_device_waits_for_comes_first():
    #  2 on A is what 3 on B waits for; 1 is not
    devices = [A, A, A, B]
    needs = [[], [0], [0], [2]]
    assert interleaved(devices, needs) == [0, 2, 3, 1]


def test_one_device_keeps_its_order():
    assert interleaved([B] * 4, [[], [], [0], [1]]) == [0, 1, 2, 3]


def test_every_order_is_complete_and_begins_nothing_too_early():
    dice = random.Random(0)
    for _ in range(300):
        devices, needs = random_graph(dice)
        order = interleaved(devices, needs)
        assert sorted(order) == list(range(len(devices)))
        assert order == interleaved(devices, needs)
        place = {i: n for n, i in enumerate(order)}
        assert all(place[j] < place[i] for i, needed in enumerate(needs) for j in needed)


def test_random_graphs_run_each_task_once_after_what_it_needs():
    dice = random.Random(1)
    for _ in range(200):
        devices, needs = random_graph(dice)
        done: list[int] = []
        thread_of: dict[Device, set[int]] = {}

        def work(i, devices=devices, needs=needs, done=done, thread_of=thread_of):
            assert needs[i] <= set(done)
            thread_of.setdefault(devices[i], set()).add(threading.get_ident())
            done.append(i)

        run(devices, needs, work)
        assert sorted(done) == list(range(len(devices)))
        for device in set(devices):
            assert [i for i in done if devices[i] is device] == [
                i for i, d in enumerate(devices) if d is device
            ]
        assert all(len(idents) == 1 for idents in thread_of.values())
        assert len(set.union(*thread_of.values())) == len(set(devices))


def test_twins_really_overlap():
    meeting = threading.Barrier(3, timeout=WAIT)
    run([A, B, C], [[], [], []], lambda _: meeting.wait())


def test_emulated_cards_are_told_one_after_the_other():
    here = threading.get_ident()
    seen: list[tuple[int, int]] = []
    devices = [get_device("emu:0"), get_device("emu:1"), A]
    run(devices, [[], [], []], lambda i: seen.append((i, threading.get_ident())))
    assert seen == [(0, here), (1, here), (2, here)]


def test_one_thread_is_enough(monkeypatch):
    monkeypatch.setattr(threads, "_pool", ThreadPool(1))
    seen: list[tuple[int, int]] = []
    run([A, B, A], [[], [], [1]], lambda i: seen.append((i, threading.get_ident())))
    assert seen == [(i, threading.get_ident()) for i in range(3)]


def test_twins_may_be_more_than_threads(monkeypatch):
    monkeypatch.setattr(threads, "_pool", ThreadPool(2))
    used: set[int] = set()
    run(
        [A, B, C] * 5,
        [[]] * 3 + [[i] for i in range(12)],
        lambda _: used.add(threading.get_ident()),
    )
    assert len(used) == 2


def test_every_thread_sees_the_callers_context_and_changes_its_own():
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    variable.set("caller's")
    seen: list[str] = []

    def work(i: int) -> None:
        seen.append(variable.get())
        variable.set("a task's")

    run([A, B], [[], []], work)
    assert seen == ["caller's", "caller's"]
    assert variable.get() == "caller's"


@pytest.mark.parametrize("failing", [A, B])
def test_an_error_surfaces_as_itself_and_nobody_waits_for_ever(failing):
    class Broken(Exception):
        pass

    error = Broken("task 2 or 3")
    devices = [A, B, A, B, A, B]
    begun: list[int] = []

    def work(i: int) -> None:
        begun.append(i)
        if i in (2, 3) and devices[i] is failing:
            raise error

    # Each waits for the other column's task before.
    with pytest.raises(Broken) as caught:
        run(devices, [[], [], [1], [0], [3], [2]], work)
    assert caught.value is error
    assert not {4, 5} & set(begun)
    run(devices, [[]] * 6, begun.append)  # the threads live on


def test_of_two_errors_the_one_of_a_loop_over_all_is_raised():
    second_failed = threading.Event()

    def work(i: int) -> None:
        if i == 1:
            second_failed.set()
            raise KeyError("the later task, which fails first")
        if i == 0:
            assert second_failed.wait(WAIT)
            raise ValueError("the earlier task")

    with pytest.raises(ValueError, match="the earlier task"):
        run([A, B], [[], []], work)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("i", [0, 1])
def test_what_is_no_exception_passes_too(kind, i):
    def work(task: int) -> None:
        if task == i:
            raise kind

    with pytest.raises(kind):
        run([A, B, A, B], [[], [], [1], [0]], work)


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
@pytest.mark.parametrize("busy", ["at work", "waiting", "done"])
def test_ctrl_c_reaches_the_caller_after_the_step_under_way(busy):
    code = f"""
import signal, sys, threading, time, os
from gpukit.backends.cpu.runtime import threads
from gpukit.autograd.schedule import run
from gpukit.device import get_device
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
threads._pool = threads.ThreadPool(2)
a, b = get_device("cpu"), get_device("cpu:1")
busy, began, finished = {busy!r}, threading.Event(), []
def work(i):
    if i == 0 and busy == "at work":
        began.wait()
        while True:
            time.sleep(0.01)
    if i == 1:
        began.set()
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)
        finished.append(1)
    assert i < 2, "begun after Ctrl-C"
needs = [[], [], [1] if busy == "waiting" else [], [1]]
devices = [a, b, b if busy == "done" else a, b]
try:
    run(devices, needs, work)
except KeyboardInterrupt:
    assert finished == [1], "the step under way was not waited for"
    run([a, b], [[], []], lambda i: finished.append(i))
    sys.exit(0 if len(finished) == 3 else 4)
sys.exit(3)
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert done.returncode == 0


def test_a_run_inside_a_run_is_a_plain_loop():
    seen: list[tuple[int, int, bool]] = []

    def outer(i: int) -> None:
        here = threading.get_ident()
        run([A, B], [[], []], lambda j: seen.append((i, j, threading.get_ident() == here)))

    run([A, B], [[], []], outer)
    assert sorted(seen) == [(i, j, True) for i in (0, 1) for j in (0, 1)]


def test_several_threads_may_run_twins_at_once():
    results: list[int] = []

    def use(number: int) -> None:
        for _ in range(50):
            seen: list[int] = []
            run([A, B, C] * 3, [[]] * 3 + [[i - 3, i - 1] for i in range(3, 9)], seen.append)
            assert sorted(seen) == list(range(9))
        results.append(number)

    users = [threading.Thread(target=use, args=(i,), daemon=True) for i in range(5)]
    for user in users:
        user.start()
    for user in users:
        user.join(WAIT)
    assert sorted(results) == list(range(5))


def test_threads_are_used_again():
    idents: set[int] = set()
    for _ in range(20):
        run([A, B, C], [[], [], []], lambda _: idents.add(threading.get_ident()))
    run([A, B, C], [[], [], []], lambda _: idents.add(threading.get_ident()))
    assert len(idents) == 3


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_of_a_run_stays_alive(fails):
    class Thing:
        pass

    def once() -> weakref.ref:
        thing = Thing()

        def work(i: int, thing: Thing = thing) -> None:
            if fails and i == 1:
                raise ValueError

        with contextlib.suppress(ValueError):
            run([A, B], [[], []], work)
        return weakref.ref(thing)

    gc.collect()
    gc.disable()
    try:
        assert once()() is None
    finally:
        gc.enable()


def test_shares_of_the_pool(monkeypatch):
    monkeypatch.setattr(threads, "_pool", ThreadPool(4))
    both = threading.Barrier(2, timeout=WAIT)
    meeting = threading.Barrier(4, timeout=WAIT)  # all are at work at one time
    used: dict[int, set[int]] = {0: set(), 1: set()}

    def work(i: int) -> None:
        both.wait()  # both columns at work: two threads each

        def task(_: int) -> None:
            used[i].add(threading.get_ident())
            meeting.wait()

        threads.parallel_for(8, task)
        both.wait()

    run([A, B], [[], []], work)
    assert len(used[0]) == len(used[1]) == 2
    assert not used[0] & used[1]


def test_a_column_that_waits_lends_its_threads(monkeypatch):
    monkeypatch.setattr(threads, "_pool", ThreadPool(2))

    def work(i: int) -> None:
        if i == 1:
            meeting = threading.Barrier(2, timeout=WAIT)
            threads.parallel_for(2, lambda _: meeting.wait())

    shares = threads.Shares
    waiting = threading.Event()

    class Watched(shares):  # begin task 1 when the other column waits for it
        def __setattr__(self, name, value):
            super().__setattr__(name, value)
            if value == 1:
                waiting.set()

    monkeypatch.setattr(threads, "Shares", Watched)
    run([B, B, A], [[], [], [1]], lambda i: work(i) if i else waiting.wait(WAIT))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_threads_of_its_own():
    code = """
import os, sys
from gpukit.backends.cpu.runtime import threads
from gpukit.autograd.schedule import run
from gpukit.device import get_device
devices = [get_device("cpu"), get_device("cpu:1")]
threads._pool = threads.ThreadPool(2)
run(devices, [[], []], lambda i: None)
child = os.fork()
if child == 0:
    threads._pool = threads.ThreadPool(2)
    seen = []
    run(devices, [[], [0]], seen.append)
    os._exit(0 if seen == [0, 1] else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    command = [sys.executable, "-W", "ignore", "-c", code]
    assert subprocess.run(command, timeout=60, check=False).returncode == 0


def test_importing_columns_loads_no_compiler():
    code = "import sys, gpukit.autograd.schedule; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
