"""Settings of runs that someone, or something, has changed."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
from harness import count
from hostile import damaged, hostile_json
from PIL import Image
from runs_to_damage import IMAGE, write_set

CHUNKS = 5
# Entries that settings may have, and that a run of lenet5 does not write.
MORE = {
    "limit": 20, "algo": {"conv2d": "acme", "conv2d_weight_grad": "im2col"},
    "kernel": {"/etc/passwd": "0", "mine.py": "abc"}, "columns": 2, "devices": ["cpu", "cpu:1"],
    "bad_images": "skip", "workers": 1, "init": "he", "unknown": {"a": [1]},
}  # fmt: skip


@pytest.fixture(scope="session")
def place(server, tmp_path_factory) -> Path:
    """A folder with `set`, `run` and `photo.png`."""
    folder = tmp_path_factory.mktemp("settings")
    write_set(folder / "set")
    Image.effect_noise(IMAGE, 60).save(folder / "photo.png")
    done = server(
        "train", "lenet5", "--data", folder / "set", "--epochs", "1", "--quiet",
        "--out", folder / "run", timeout=300,
    )  # fmt: skip
    assert done.code == 0, done.err
    return folder


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_settings(commands, survived, place, tmp_path, chunk):
    for case in range(count(500, CHUNKS)):
        draw = random.Random(f"settings {chunk} {case}")
        run = tmp_path / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(place / "run", run)
        file = run / "settings.json"
        kind = draw.random()
        if kind < 0.2:
            file.write_bytes(damaged(draw, file.read_bytes(), 400))
        elif kind < 0.25:
            with file.open("ab") as opened:
                opened.truncate(draw.choice((0, 2**20, 2**33)))
        else:
            settings = json.loads(file.read_text())
            for name in draw.sample(sorted(MORE), draw.choice((0, 1, 2))):
                settings[name] = MORE[name]
            file.write_text(
                hostile_json(draw, settings), encoding="utf-8", errors="surrogateescape"
            )
        way = draw.randrange(4)
        if way == 0:
            outcome = commands("train", "--resume", run, "--quiet")
        elif way == 1:
            outcome = commands("evaluate", run)
        elif way == 2:
            outcome = commands("predict", run, place / "photo.png", "--json")
        else:
            outcome = commands("summary", run)
        # What is told of implementations that are not there takes lines of its own.
        survived("settings", outcome, run, lines=None, case=(chunk, case))
