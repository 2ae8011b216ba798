"""A run that is stopped or killed, as a process of its own, resumes to the bits of an unbroken one.

GPUKIT_TEST_KILLS sets how many runs are killed (by default 3 of them).
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from command_line import process

from gpukit.training import checkpoint

KILLS = max(3, int(os.environ.get("GPUKIT_TEST_KILLS", "20")) // 7)

EPOCHS = 20
# 17 steps of 64 images an epoch; long enough to be met in the middle.
RUN = ["train", "lenet5", "--limit", "1200", "--epochs", str(EPOCHS), "--seed", "5"]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    result = process(*RUN, "--out", out, "--json", "--quiet")
    assert result.code == 0, result.err
    return out, result.json


def begin(out, *options, threads="2"):
    """A run in a process, its first epoch done."""
    running = subprocess.Popen(
        [sys.executable, "-m", "gpukit", *RUN, "--out", out, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "GPUKIT_THREADS": threads},
    )
    until = time.monotonic() + 120
    while not (out / "last.safetensors").exists():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < until
        time.sleep(0.002)
    return running


def assert_same_run(out, unbroken, result):
    whole, facts = unbroken
    for name in ("last.safetensors", "best.safetensors"):
        (ours, _), (theirs, _) = checkpoint.read(out / name), checkpoint.read(whole / name)
        assert ours.keys() == theirs.keys()
        assert all(ours[key].tobytes() == theirs[key].tobytes() for key in ours)
    histories = [
        [{**json.loads(line), "seconds": 0} for line in (x / "history.jsonl").open()]
        for x in (out, whole)
    ]
    assert histories[0] == histories[1]
    assert len(histories[0]) == EPOCHS
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in whole.iterdir())
    assert result.json["test_accuracy"] == facts["test_accuracy"]


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)]
)
def test_a_signal_saves_and_says_how_to_go_on(tmp_path, unbroken, signum, code):
    """Stopped with two threads, resumed with one."""
    out = tmp_path / "run"
    running = begin(out, "--json")
    time.sleep(random.Random(code).uniform(0, 0.1))
    running.send_signal(signum)
    printed, told = running.communicate(timeout=60)
    assert running.returncode == code
    assert printed == ""
    assert told.splitlines()[-1] == f"stopped and saved; go on with: gpukit train --resume {out}"
    assert "Traceback" not in told
    _, state = checkpoint.read(out / "last.safetensors")
    assert 1 <= state["training"]["epoch"] < EPOCHS
    result = process("train", "--resume", out, "--json", env={**os.environ, "GPUKIT_THREADS": "1"})
    assert result.code == 0, result.err
    assert_same_run(out, unbroken, result)


def test_killed_again_and_again(tmp_path, unbroken):
    """By kill -9 at random moments, `--resume auto` each time, as a restarted job would."""
    pick = random.Random(1)
    number = 0
    for _ in range(KILLS):
        out = tmp_path / f"run-{number}"
        running = begin(out, "--resume", "auto", threads=pick.choice("12"))
        time.sleep(pick.uniform(0, 0.1))
        running.kill()
        running.communicate()
        (out / ".last.safetensors.1-0123abcd.part").write_text("half")  # as if inside a save
        _, state = checkpoint.read(out / "last.safetensors")
        if state["training"]["epoch"] == EPOCHS:
            result = process(*RUN, "--out", out, "--resume", "auto", "--json")
            assert_same_run(out, unbroken, result)
            number += 1
    out = tmp_path / f"run-{number}"
    result = process(*RUN, "--out", out, "--resume", "auto", "--json")
    assert result.code == 0, result.err
    assert_same_run(out, unbroken, result)


def test_killed_before_anything_was_saved(tmp_path, unbroken):
    out = tmp_path / "run"
    running = subprocess.Popen(
        [sys.executable, "-m", "gpukit", *RUN, "--out", out, "--quiet"], stdout=subprocess.DEVNULL
    )
    while not (out / "settings.json").exists():
        assert running.poll() is None
        time.sleep(0.0005)
    running.kill()
    running.wait()
    result = process("train", "--resume", out, "--json", "--quiet")
    assert result.code == 0, result.err
    assert_same_run(out, unbroken, result)


def test_runs_begun_at_once_have_folders_of_their_own(tmp_path):
    command = [sys.executable, "-m", "gpukit", *RUN[:4], "--epochs", "1", "--quiet", "--json"]
    begun = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) for _ in range(3)]
    found = [json.loads(one.communicate(timeout=120)[0].splitlines()[-1])["out"] for one in begun]
    assert sorted(found) == ["runs/lenet5-1", "runs/lenet5-2", "runs/lenet5-3"]
    assert all(len(list((tmp_path / out).iterdir())) == 6 for out in found)


def test_two_runs_into_one_folder(tmp_path):
    out = tmp_path / "run"
    first = begin(out)
    try:
        second = process("train", "--resume", out)
        assert second.code == 2
        assert second.err == (
            f"gpukit: {out} is in use: another process trains in it; wait for it, or choose "
            "another --out\n"
        )
    finally:
        first.kill()
        first.communicate()


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    out = tmp_path / "run"
    running = begin(out)
    running.send_signal(signal.SIGINT)
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in told
    assert told.splitlines()[-1].endswith(f"go on with: gpukit train --resume {out}")
    checkpoint.read(out / "last.safetensors")


def test_sigterm_again_and_again_is_sigterm(tmp_path):
    """As from a supervisor that asks twice, or asks a wrapper too, which passes it on."""
    out = tmp_path / "run"
    running = begin(out)
    for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM, signal.SIGTERM):
        running.send_signal(signum)
    _, told = running.communicate(timeout=60)
    assert running.returncode == 143
    assert told.splitlines()[-1] == f"stopped and saved; go on with: gpukit train --resume {out}"


def test_under_nohup_a_terminal_that_goes_away_stops_nothing(tmp_path):
    out = tmp_path / "run"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        running = begin(out)
    finally:
        signal.signal(signal.SIGHUP, before)
    running.send_signal(signal.SIGHUP)
    assert running.communicate(timeout=60)[0].startswith("test accuracy")
    assert running.returncode == 0


LOADING = """
import sys
from gpukit.cli import main, signals
signals.ends_at_once()
print("here", flush=True)
main()
"""


@pytest.mark.parametrize("chance", range(max(3, KILLS // 2)))
def test_ctrl_c_in_the_first_seconds(tmp_path, chance):
    """From gpukit's first line on; before that Python itself starts."""
    out = tmp_path / "run"
    running = subprocess.Popen(
        [sys.executable, "-c", LOADING, *RUN, "--out", out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout.readline() == "here\n"
    time.sleep(random.Random(chance).uniform(0, 2))
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=60)
    assert running.returncode == 130, told
    assert "Traceback" not in told
    assert told.splitlines()[-1].startswith("stopped")


@pytest.mark.parametrize("when", ["curves", "filters"])
def test_ctrl_c_in_the_last_part_says_how_to_go_on(tmp_path, monkeypatch, gpukit, when):
    from gpukit.inspect import pictures

    out = tmp_path / "run"
    command = [*RUN[:4], "--epochs", 1, "--quiet"]
    with monkeypatch.context() as patch:
        patch.setattr(pictures, when, lambda *a: os.kill(os.getpid(), signal.SIGINT))
        stopped = gpukit(*command, "--out", out)
    assert stopped.code == 130
    assert stopped.err == f"stopped; go on with: gpukit train --resume {out}\n"
    assert gpukit("train", "--resume", out).out.startswith("test accuracy")
