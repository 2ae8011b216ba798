"""Small runs of LeNet-5, how they are broken off, and when two of them are the same."""

from __future__ import annotations

import json
import os

from gpukit.runs import RunSettings
from gpukit.runs.folder import STARTED
from gpukit.runs.saver import RunSaver
from gpukit.training import checkpoint

SETTINGS = RunSettings("lenet5", limit=300, epochs=5, batch_size=32, seed=3, lr=0.02)


class Broken(Exception):
    pass


def stop_at(epoch, batch, *, how=None):
    """A saver that sends a signal (or raises) when this step is done."""

    class Stopping(RunSaver):
        def on_train_batch_end(self, number, logs=None):
            if (self.model.training_state.epoch, number) == (epoch, batch):
                if how is None:
                    raise Broken
                os.kill(os.getpid(), how)
            super().on_train_batch_end(number, logs)

    return Stopping


def history(out):
    lines = (out / "history.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def settings_of(out):
    found = json.loads((out / "settings.json").read_text())
    return {k: v for k, v in found.items() if k != STARTED}


def assert_same_run(a, b, ignore=None):
    for name in ("last.safetensors", "best.safetensors"):
        (ours, state_a), (theirs, state_b) = (checkpoint.read(x / name) for x in (a, b))
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert ours[key].tobytes() == theirs[key].tobytes(), (name, key)
        assert state_a["context"] == state_b["context"]
    assert history(a) == history(b)
    assert {**settings_of(a), ignore: 0} == {**settings_of(b), ignore: 0}
    files = [sorted(p.name for p in x.iterdir() if not p.name.startswith("last-")) for x in (a, b)]
    assert files[0] == files[1]


def flip(path):
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
