"""Worker processes under real signals: errors name them, and none of them is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from photos import folder

from gpukit.data import Augment, ImageFeed, scan, workers
from gpukit.errors import WorkerError

# A program without `if __name__ == "__main__"`: starting workers must not run it again.
PROGRAM = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
import gpukit.errors
from gpukit.data import Augment, ImageFeed, scan
feed = ImageFeed(scan(sys.argv[1]).train, 4, 32, Augment(), workers=2)
epoch = feed.epoch(0)
next(epoch)
print(*feed.pids, flush=True)
"""


@pytest.fixture
def images(tmp_path):
    return scan(folder(tmp_path / "pictures", train=6, val=2)).train


def feed(items, count=2) -> ImageFeed:
    return ImageFeed(items, 4, 32, Augment(flip=False, crop="centre"), workers=count)


def gone(pid: int) -> bool:
    """Whether the process ends within a time that only a hang exceeds."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
            state = Path(f"/proc/{pid}/stat")
            if state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z":
                return True  # ended; its parent, which is not ours, has not looked yet
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.02)
    return False


# A worker in which the disk is slow: a picture with a .wait beside it is not read.
WAITING = """
import time
from pathlib import Path
import runpy
from gpukit.data import images
read = images.regular
def waiting(path, *rest):
    while Path(f"{path}.wait").exists():
        time.sleep(0.01)
    return read(path, *rest)
images.regular = waiting
runpy.run_module("gpukit.data.worker", run_name="__main__")
"""


@pytest.fixture
def start_instead(tmp_path, monkeypatch):
    """`start_instead(program)`: what worker processes run."""

    def start(program: str) -> None:
        (tmp_path / "another_worker.py").write_text(program)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr(workers, "_WORKER", "another_worker")

    return start


@pytest.fixture
def stuck(start_instead):
    """Makes reading of a picture wait as long as there is a file: `stuck(items, index)`."""
    start_instead(WAITING)

    def wait(items, index: int) -> Path:
        path = items.path(index)
        Path(f"{path}.wait").touch()
        return path

    return wait


def wait_until_at(source: ImageFeed, index: int) -> int:
    """The worker that is reading picture `index`."""
    memory, until = source._pool._crew.memory, time.monotonic() + 60
    while time.monotonic() < until:
        for number in range(len(source.pids)):
            if memory.at(number) == index:
                return number
        time.sleep(0.01)
    raise AssertionError(f"no worker says that it is at picture {index}")


def test_a_killed_worker_is_named_with_its_picture(images, stuck):
    path = stuck(images, 6)
    with feed(images) as source:
        epoch = source.epoch(0)
        next(epoch)  # the first four; the fifth to eighth are being read
        number, pids = wait_until_at(source, 6), source.pids
        os.kill(pids[number], signal.SIGKILL)
        with pytest.raises(WorkerError) as caught:
            list(epoch)
        text = str(caught.value)
        assert f"worker {number} (process {pids[number]}) was killed by SIGKILL at {path}" in text
        assert "memory" in text and "\n" not in text
        assert source.pids == [] and all(map(gone, pids))
        Path(f"{path}.wait").unlink()
        assert len(list(source.epoch(0))) == 5  # the feed starts new ones


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        pytest.param(True, "was stopped", marks=pytest.mark.skipif(
            not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")),
        (False, "has stood still for 2 s"),
    ],
)  # fmt: skip
def test_a_worker_that_stands_still_is_named_with_its_picture(
    images, stuck, monkeypatch, stop, text
):
    monkeypatch.setattr(workers, "_TICK", 0.2)
    path = stuck(images, 6)
    with feed(images) as source:
        epoch = source.epoch(0)
        next(epoch)
        number, pids = wait_until_at(source, 6), source.pids
        monkeypatch.setattr(workers, "_STOPPED" if stop else "_STILL", 2)
        if stop:
            os.kill(pids[number], signal.SIGSTOP)
        with pytest.raises(WorkerError) as caught:
            list(epoch)
        expected = f"worker {number} (process {pids[number]}) {text} at {path}; see"
        assert str(caught.value).startswith(expected)
        assert source.pids == [] and all(map(gone, pids))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's /proc")
def test_shared_memory_has_no_name_that_could_be_left(images):
    with feed(images) as source:
        next(source.epoch(0))
        texts = [Path(f"/proc/{pid}/maps").read_text() for pid in source.pids]
    maps = "".join(texts).splitlines()
    shared = [line.split(maxsplit=5)[5] for line in maps if " rw-s " in line]
    assert shared and all("(deleted)" in name and "/dev/shm" not in name for name in shared)


def test_workers_killed_between_epochs(images):
    with feed(images) as source:
        list(source.epoch(0))
        for pid in source.pids:
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerError, match=r"was killed by SIGKILL while it had nothing to do"):
            list(source.epoch(1))


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_to_all_processes_of_a_job_are_for_the_parent(images, signum):
    """From the moment a worker starts: its parent decides when the work is done."""
    with feed(images) as source:
        epoch = source.epoch(0)
        first = next(epoch)
        for pid in source.pids:
            os.kill(pid, signum)
        assert len([first, *epoch]) == 5
        assert len(list(source.epoch(1))) == 5


@pytest.mark.parametrize("closed", ["0", "1", "2", "01", "012"])
def test_workers_of_a_process_without_streams(images, tmp_path, closed):
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "root, said, closed = sys.argv[1:]\n"
        "for number in map(int, closed):\n"
        "    os.close(number)\n"
        "from gpukit.data.folder import scan\n"
        "from gpukit.data.image_feed import ImageFeed\n"
        "from gpukit.data.augment import Augment\n"
        "if __name__ == '__main__':\n"
        "    found = scan(root)\n"
        "    with ImageFeed(found.train, 4, 8, Augment('centre'), workers=2) as feed:\n"
        "        Path(said).write_text(str(sum(len(b.x) for b in feed.epoch(0)) == feed.count))\n"
    )
    said = tmp_path / "said"
    command = [sys.executable, "-c", program, str(images.root.parent), str(said), closed]
    subprocess.run(command, timeout=120, capture_output=True)
    assert said.read_text() == "True"


def test_a_worker_that_does_not_start(images, monkeypatch, start_instead, capfd):
    start_instead("import sys; sys.exit(3)")
    with feed(images) as source, pytest.raises(WorkerError, match=r"ended with code 3"):
        next(source.epoch(0))
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with feed(images) as source, pytest.raises(WorkerError, match=r"cannot be started.*No such"):
        next(source.epoch(0))


def test_training_ends_with_a_killed_worker(images):
    from gpukit import layers
    from gpukit.callbacks import Callback
    from gpukit.models import Sequential

    class Kill(Callback):
        def on_train_batch_end(self, batch, logs=None):
            os.kill(source.pids[0], signal.SIGKILL)

    model = Sequential([layers.Flatten(), layers.Dense(3, activation="softmax")], seed=0)
    model.compile("sgd", "sparse_categorical_crossentropy")
    with feed(images) as source:
        list(source.epoch(0))
        pids = source.pids
        with pytest.raises(WorkerError, match=f"process {pids[0]}"):
            model.fit(source, epochs=50, verbose=0, callbacks=[Kill()])
        assert all(map(gone, pids))


@pytest.mark.parametrize(
    ("ending", "signum", "code"),
    [
        ("time.sleep(600)", signal.SIGKILL, -signal.SIGKILL),
        ("time.sleep(600)", signal.SIGTERM, -signal.SIGTERM),
        ("time.sleep(600)", signal.SIGINT, -signal.SIGINT),
        ("while True: list(epoch); epoch = feed.epoch(0)", signal.SIGINT, -signal.SIGINT),
        ("while True: list(epoch); epoch = feed.epoch(0)", signal.SIGKILL, -signal.SIGKILL),
        ("sys.exit(7)", None, 7),
        ("raise RuntimeError", None, 1),
        ("os._exit(0)", None, 0),
    ],
)
def test_no_worker_outlives_its_parent(images, ending, signum, code):
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM + ending, str(images.root.parent)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert program.stdout is not None
    pids = [int(pid) for pid in program.stdout.readline().split()]
    assert len(pids) == 2
    if signum is not None:
        time.sleep(0.1)
        program.send_signal(signum)
    _, errors = program.communicate(timeout=120)
    assert program.returncode == code, errors
    assert all(map(gone, pids))
    assert b"WorkerError" not in errors and b"Broken" not in errors


def test_a_copy_of_the_process_does_not_end_its_workers(images):
    copy = """
for use in (lambda: None, lambda: next(epoch)):
    if os.fork() == 0:
        try:
            use()
        except gpukit.errors.WorkerError as error:
            print("refused:", error, flush=True)
        sys.exit(0)
    os.wait()
print(sum(len(b.y) for b in epoch))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM + copy, str(images.root.parent)],
        capture_output=True,
        timeout=120,
        check=True,
    )
    _, refused, rest = done.stdout.splitlines()
    assert refused.startswith(b"refused: a fork cannot use") and rest == b"14"


def test_only_paths_and_pixels_are_shared(images):
    """The table of paths survives any bytes in them, and slots do not touch each other."""
    odd = images.root / "a" / os.fsdecode(b"\xfe\xff '\n\".jpg")
    try:
        images.path(0).rename(odd)
    except OSError:
        pytest.skip("the file system takes text only")
    items = scan(images.root.parent).train
    expected = list(ImageFeed(items, 4, 32).epoch(0))
    with ImageFeed(items, 4, 32, workers=2) as source:
        found = list(source.epoch(0))
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a.x, b.x)
