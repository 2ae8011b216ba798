"""`kill -9` during a save leaves a checkpoint that loads: the old one or the new one, whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gpukit.training import checkpoint

TRIES = int(os.environ.get("GPUKIT_TEST_KILLS", "20"))

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")

# Saves number after number: tensors of the size of LeNet-5's, full of the number.
SAVE = """
import itertools, os, signal, sys
import numpy as np
from gpukit.training import checkpoint

def save(number):
    tensors = {{f"layer/{{i}}": np.full(20_000, number, np.float32) for i in range(6)}}
    checkpoint.write(sys.argv[1], tensors, {{"number": number}})

{program}
"""

FOREVER = """
for number in itertools.count(int(sys.argv[2])):
    save(number)
"""

# Dies before or after the call of a function of os that a save makes, once an old file is there.
AT_A_STEP = """
name, call, when = sys.argv[2:5]
save(1)
real = getattr(os, name)
calls = 0

def deadly(*arguments, **settings):
    global calls
    calls += 1
    if calls < int(call):
        return real(*arguments, **settings)
    if when == "after":
        real(*arguments, **settings)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(os, name, deadly)
save(2)
"""


def start(program: str, *arguments: object) -> subprocess.Popen:
    text = SAVE.format(program=program)
    return subprocess.Popen([sys.executable, "-c", text, *map(str, arguments)])


def number_in(path: Path) -> int:
    """What number the checkpoint holds; asserts that all of it does."""
    tensors, state = checkpoint.read(path)
    assert len(tensors) == 6
    for tensor in tensors.values():
        np.testing.assert_array_equal(tensor, np.full(20_000, state["number"], np.float32))
    return state["number"]


def test_killed_at_random_moments(tmp_path):
    pick = random.Random(0)
    path = tmp_path / "last.safetensors"
    before = 0
    for _ in range(TRIES):
        saver = start(FOREVER, path, before + 1)
        try:
            until = time.monotonic() + 60
            while not path.exists() or number_in(path) <= before:
                assert saver.poll() is None and time.monotonic() < until, "no save happened"
                time.sleep(0.001)
            time.sleep(pick.uniform(0, 0.03))
        finally:
            saver.kill()
            saver.wait()
        number = number_in(path)
        assert number > before
        before = number


@pytest.mark.parametrize(
    ("name", "call", "when", "left"),
    [
        ("open", 1, "before", 1),
        ("open", 1, "after", 1),
        ("fsync", 1, "before", 1),
        ("fsync", 1, "after", 1),
        ("replace", 1, "before", 1),
        ("replace", 1, "after", 2),
        ("open", 2, "before", 2),  # of the folder, to sync the new name
        ("fsync", 2, "after", 2),
    ],
)
def test_killed_at_each_step_of_a_save(tmp_path, name, call, when, left):
    path = tmp_path / "last.safetensors"
    saver = start(AT_A_STEP, path, name, call, when)
    assert saver.wait(timeout=60) == -signal.SIGKILL
    assert number_in(path) == left
