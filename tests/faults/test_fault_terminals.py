"""Streams that are closed, full, without a reader or poor in characters; terminals of any size.

Progress that cannot be shown never ends a command; results that cannot be written end it with a
code of their own, after the run is saved.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from data_on_disk import write_pictures
from harness import count

pytestmark = pytest.mark.skipif(os.name == "nt", reason="streams as POSIX has them")

TRAIN = ["train", "lenet5", "--limit", "40", "--epochs", "1", "--out", "run"]
COMMANDS = [TRAIN, ["data", "list"], ["summary", "lenet5"]]

# What a command finds when it begins, as a program that makes it so, and how it ends.
CLOSE = """
for number, name in enumerate(("stdin", "stdout", "stderr")):
    if str(number) in {numbers!r}:
        os.close(number)
        setattr(sys, name, None)
"""
FULL = "os.dup2(os.open('/dev/full', os.O_WRONLY), {number})"
GONE = """
for number in {numbers}:
    ours, theirs = os.pipe()
    os.dup2(theirs, number)
    os.close(ours), os.close(theirs)
"""
CLOGGED = """
ours, theirs = os.pipe()
os.set_blocking(theirs, False)
with __import__("contextlib").suppress(BlockingIOError):
    while True:
        os.write(theirs, bytes(4096))
os.dup2(theirs, 2)
"""
ENCODED = """
sys.stdout = open(1, "w", encoding={name!r}, closefd=False)
sys.stderr = open(2, "w", encoding={name!r}, closefd=False)
"""
# Another thread reads what is shown, so that the terminal never fills.
PTY = """
import fcntl, pty, struct, termios, threading
master, slave = pty.openpty()
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", {rows}, {columns}, 0, 0))
def drain():
    try:
        while os.read(master, 65536):
            pass
    except OSError:
        pass
threading.Thread(target=drain, daemon=True).start()
for number in (0, 1, 2):
    os.dup2(slave, number)
sys.stdout = open(1, "w", closefd=False)
sys.stderr = open(2, "w", closefd=False)
os.environ.update({env!r})
"""
HUNG_UP = """
import pty
master, slave = pty.openpty()
os.dup2(slave, 2)
os.close(master)
sys.stderr = open(2, "w", closefd=False)
"""
RUN = """
from gpukit.cli import main
try:
    main({arguments!r})
except SystemExit as end:
    os._exit(end.code)
"""

TERMINALS = {
    **{
        f"closed {numbers}": (CLOSE.format(numbers=numbers), 0)
        for numbers in ("0", "1", "2", "01", "02", "12", "012")
    },
    "stdout full": (FULL.format(number=1), 2),
    "stderr full": (FULL.format(number=2), 0),
    "stdout's reader gone": (GONE.format(numbers="[1]"), 141),
    "stderr's reader gone": (GONE.format(numbers="[2]"), 0),
    "both readers gone": (GONE.format(numbers="[1, 2]"), 141),
    "stderr clogged": (CLOGGED, 0),
    "ASCII": (ENCODED.format(name="ascii"), 0),
    "Latin-1": (ENCODED.format(name="latin-1"), 0),
    "1 × 1": (PTY.format(rows=1, columns=1, env={}), 0),
    "10,000 columns": (PTY.format(rows=2, columns=10_000, env={}), 0),
    "dumb": (PTY.format(rows=24, columns=80, env={"TERM": "dumb"}), 0),
    "no colours": (PTY.format(rows=24, columns=80, env={"NO_COLOR": "1"}), 0),
    "hung up": (HUNG_UP, 0),
}
CASES = [(name, command) for name in TERMINALS for command in COMMANDS]
random.Random("terminals").shuffle(CASES)


def test_streams_and_terminals(commands, survived, tmp_path):
    for number, (name, arguments) in enumerate(CASES[: count(len(CASES))]):
        before, code = TERMINALS[name]
        folder = tmp_path / str(number)
        folder.mkdir()
        program = "import os, sys\n" + before + RUN.format(arguments=arguments)
        outcome = commands(program=program, cwd=folder, timeout=240)
        case = (name, arguments)
        survived("streams and terminals", outcome, codes=(code,), lines=None, case=case)
        if name in ("ASCII", "Latin-1"):
            assert outcome.out and all(ord(c) < 256 for c in outcome.out + outcome.err), case
        if arguments == TRAIN:
            assert len(list((folder / "run").iterdir())) == 6, case


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_run_with_workers_begun_without_streams(tmp_path, closed):
    """As a daemon or cron begins it: the numbers are free when Python starts."""
    write_pictures(tmp_path / "set", train=6, val=2)
    arguments = "train alexnet --data set --epochs 1 --workers 2 --width 0.05 --input-size 67"
    python = [sys.executable, "-m", "gpukit", *arguments.split(), "--out", "run"]
    done = subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", *python], cwd=tmp_path)
    assert done.returncode == 0
    assert len(list((tmp_path / "run").iterdir())) == 6


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_encodings_of_the_environment(tmp_path, encoding):
    """Of names that are no text the bytes that are none are escaped."""
    command = [sys.executable, "-m", "gpukit", "predict", os.fsdecode(b"no\xff\xc3\xa9"), "x.png"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding, "LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == 2
    shown = {
        "ascii": rb"no\udcffe",
        "latin-1": rb"no\udcff" + b"\xe9",
        "utf-8": rb"no\udcff" + b"\xc3\xa9",
    }
    assert done.stderr == b"gpukit: there is no checkpoint " + shown[encoding] + b"\n"


def test_the_summary_of_a_run_needs_no_reader(tmp_path, commands, survived):
    """A run whose results nobody reads is whole, and its test can be read again."""
    program = "import os, sys\n" + GONE.format(numbers="[1]") + RUN.format(arguments=TRAIN)
    outcome = commands(program=program, timeout=240)
    survived("streams and terminals", outcome, codes=(141,))
    again = commands("evaluate", "run", "--limit", "40")
    assert again.code == 0 and "test accuracy" in again.out
    assert Path(tmp_path / "run" / "curves.png").exists()
