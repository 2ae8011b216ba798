"""`kill -9` of runs that have worker processes, and many runs that must have one hash.

GPUKIT_TEST_KILLS sets how many there are of each: half of it (by default 4 of either).
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from data_on_disk import write_pictures

from gpukit.training import checkpoint

TRIES = max(4, int(os.environ.get("GPUKIT_TEST_KILLS", "0")) // 2)
INSIDE = 3  # one kill in so many waits for a save
EPOCHS = 6
RUN = "--width 0.05 --input-size 67 --batch-size 8 --seed 5 --lr 0.002 --keep 2 --json"

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")


def command(out: Path, epochs: int, workers: int, *options: str) -> list[str]:
    return [
        sys.executable, "-m", "gpukit", "train", "alexnet", "--data", str(out.parent / "set"),
        *RUN.split(), "--epochs", str(epochs), "--workers", str(workers), "--out", str(out),
        *options,
    ]  # fmt: skip


def threads(number: int) -> dict[str, str]:
    return {**os.environ, "GPUKIT_THREADS": str(number)}


def digest(out: Path) -> str:
    """Of all that a run computes: weights, state of the optimiser, figures of every epoch."""
    found = hashlib.sha256()
    for name in ("last", "best"):
        tensors, _ = checkpoint.read(out / f"{name}.safetensors")
        for key in sorted(tensors):
            found.update(key.encode() + tensors[key].tobytes())
    for line in (out / "history.jsonl").read_text().splitlines():
        found.update(json.dumps({**json.loads(line), "seconds": 0}).encode())
    return found.hexdigest()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("kills")
    write_pictures(root / "set", train=16, val=4)
    return root


def saving(out: Path) -> bool:
    return any(path.suffix == ".part" for path in out.iterdir())


def children(pid: int) -> list[int]:
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def gone(pids: list[int]) -> bool:
    until = time.monotonic() + 60
    while any(Path(f"/proc/{pid}/cmdline").exists() for pid in pids):
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def test_kill_9_with_workers(folder, record_property):
    """Every run that follows goes on; the last to come through has the bits of an unbroken one."""
    whole = folder / "whole"
    subprocess.run(command(whole, EPOCHS, 2), check=True, capture_output=True, env=threads(2))
    draw = random.Random(7)
    inside = finished = 0
    for number in range(TRIES):
        out = folder / f"run-{finished}"
        before = len(list(out.glob("*"))) if out.exists() else 0
        running = subprocess.Popen(
            command(out, EPOCHS, draw.choice((1, 2, 3)), "--resume", "auto"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=threads(draw.choice((1, 2))),
        )
        wait_for_save, patience = number % INSIDE == 0, draw.uniform(0.5, 5)
        begun = time.monotonic()
        started = stamp(out)
        while running.poll() is None:
            moved = stamp(out) > started  # this process has begun to write
            if wait_for_save and moved and saving(out):
                break
            if not wait_for_save and time.monotonic() - begun > patience and (before or moved):
                break
            time.sleep(0.0005)
        workers = children(running.pid)
        running.kill()
        running.wait()
        inside += out.exists() and saving(out)
        assert gone(workers)
        if finished_run(out):
            assert digest(out) == digest(whole)
            finished += 1
    out = folder / f"run-{finished}"
    subprocess.run(command(out, EPOCHS, 1, "--resume", "auto"), check=True, capture_output=True)
    assert digest(out) == digest(whole)
    record_property(
        "summary",
        f"{TRIES} kill -9 with workers, {inside} inside a save: all went on, "
        f"{finished + 1} runs to the end, one hash",
    )
    assert inside >= TRIES * 22 // 100


def stamp(out: Path) -> str:
    """When the run in `out` was last started, as it says itself."""
    try:
        return json.loads((out / "settings.json").read_text())["started"]
    except OSError:
        return ""


def finished_run(out: Path) -> bool:
    try:
        _, state = checkpoint.read(out / "last.safetensors")
    except Exception:
        return False
    return state["training"]["epoch"] == EPOCHS and (out / "curves.png").exists()


def counts() -> Iterator[tuple[int, int]]:
    """(threads, workers), in an order of its own."""
    draw = random.Random(3)
    while True:
        yield draw.choice((1, 2, 3, 4, 7)), draw.choice((0, 1, 2, 3))


def test_one_hash(folder, record_property):
    """Whatever the number of threads and workers."""
    found: dict[str, list[tuple[int, int]]] = {}
    for number, (many, workers) in zip(range(TRIES), counts()):
        out = folder / f"same-{number}"
        subprocess.run(command(out, 2, workers), check=True, capture_output=True, env=threads(many))
        found.setdefault(digest(out), []).append((many, workers))
    assert len(found) == 1, found
    record_property("summary", f"{TRIES} runs with 1 to 7 threads and 0 to 3 workers: one hash")
