"""Training for minutes takes no more memory, descriptors or threads than at its beginning.

GPUKIT_TEST_SOAK is the number of minutes, by default a twentieth.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from data_on_disk import write_pictures

from gpukit.callbacks import Callback
from gpukit.runs import RunSettings, train

MINUTES = float(os.environ.get("GPUKIT_TEST_SOAK", "0.05"))
MOST = 4.0  # MB that memory may grow by in all, what the allocator keeps included

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")


class Watch(Callback):
    """Looks at the process after every epoch; stops when its time is over."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.seen: list[tuple[float, float, int, int]] = []

    def on_epoch_end(self, epoch, logs=None) -> None:
        now = time.monotonic() - self.begun
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        memory = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
        self.seen.append(
            (now, memory, len(list(Path("/proc/self/fd").iterdir())), threading.active_count())
        )
        if now > 60 * MINUTES and epoch >= 12:
            self.model.stop_training = True


def test_nothing_grows(tmp_path, monkeypatch, record_property):
    """An epoch trains, validates by two workers, and saves with --keep 3.

    Epochs are long in a long run: their history is kept, so that many short ones would grow.
    """
    write_pictures(tmp_path / "set", train=max(10, int(20 * MINUTES)), val=2)
    watch = Watch()
    monkeypatch.setattr("gpukit.runs.run._callbacks", lambda *a: [watch])
    settings = RunSettings(
        "alexnet", data=str(tmp_path / "set"), width=0.05, input_size=67, batch_size=8,
        epochs=1_000_000, workers=2, keep=3, lr=1e-4,
    )  # fmt: skip
    train(settings, tmp_path / "run", verbose=0)
    # The first epochs fill caches and pools.
    seen = np.array(watch.seen[len(watch.seen) // 4 :])
    minutes, memory = seen[:, 0] / 60, seen[:, 1]
    slope = float(np.polyfit(minutes, memory, 1)[0])
    grown = slope * (minutes[-1] - minutes[0])
    record_property(
        "summary",
        f"soak: {len(watch.seen)} epochs in {watch.seen[-1][0] / 60:.1f} minutes: memory "
        f"{memory[0]:.1f} to {memory[-1]:.1f} MB ({slope:+.2f} MB a minute), descriptors "
        f"{seen[:, 2].min():.0f} to {seen[:, 2].max():.0f}, threads {seen[:, 3].min():.0f} to "
        f"{seen[:, 3].max():.0f}",
    )
    assert grown < MOST
    assert seen[-1, 2] <= seen[0, 2] and seen[-1, 3] <= seen[0, 3]
