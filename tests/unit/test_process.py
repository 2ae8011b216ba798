"""Worker processes: replies apart from prints, orders, limits, an end for all that they start."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from gpukit.core import process
from gpukit.core.process import WorkerProcess

WORKER = """
import os, subprocess, sys, time
from gpukit.core import process

def main(order, reply):
    print("said on stdout")
    os.write(1, b"and by C\\n")
    reply(number=order["number"])
    if order.get("leaves"):
        left = subprocess.Popen(["sleep", "600"])
        reply(left=left.pid)
    time.sleep(order.get("seconds", 0))
    return order.get("code", 0)

def end():
    os._exit(5)

if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(process.work(main))
    process.serve({"double": lambda number: {"twice": 2 * number}, "end": end})
"""


@pytest.fixture
def start(tmp_path):
    (tmp_path / "some_worker.py").write_text(WORKER)

    def worker(order=None, **settings):
        return WorkerProcess(
            "some_worker", order, variables={"PYTHONPATH": str(tmp_path)}, **settings
        )

    return worker


def test_replies_and_prints_are_kept_apart(start):
    with start({"number": 7, "code": 3}) as worker:
        assert list(worker.replies()) == [{"number": 7}]
        assert (worker.code, worker.hung) == (3, False)
        assert sorted(worker.printed()) == ["and by C", "said on stdout"]


def test_a_worker_takes_orders_until_it_ends(start):
    with start() as worker:
        assert worker.ask("double", number=4) == {"twice": 8}
        assert worker.ask("halve") == {"error": "KeyError: 'halve'"}
        assert worker.ask("double", number=5) == {"twice": 10}
        assert worker.ask("end") is None
        assert worker.ask("double", number=6) is None
        assert worker.code == 5


def test_one_that_is_silent_too_long_is_ended_with_what_it_started(start):
    with start({"number": 1, "leaves": True, "seconds": 600}, limit=20.0) as worker:
        replies = worker.replies()
        assert next(replies) == {"number": 1}
        left = next(replies)["left"]
        worker._limit = 0.5
        assert list(replies) == []
        assert worker.hung and worker.code < 0
    until, stdin = time.monotonic() + 10, Path(f"/proc/{left}/fd/0")
    while stdin.exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not stdin.exists()


def test_lines_of_several_processes_are_shown_once():
    lines = [str(number) for number in range(process.SHOWN + 5)]
    assert process.distinct([*lines, *lines]) == lines[5:]
