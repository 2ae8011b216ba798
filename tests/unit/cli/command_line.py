"""Runs commands, in this process where that is quick or in one of its own, and makes data."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpukit import cli
from gpukit.data.idx import write_idx

# Enough to learn a little: 1080 images in 17 steps an epoch.
TRAIN = ["train", "lenet5", "--limit", "1200", "--epochs", "3", "--lr", "0.02"]


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The object in the last line of stdout."""
        return json.loads(self.out.splitlines()[-1])


def call(arguments: list[object], capture: Any) -> Result:
    with pytest.raises(SystemExit) as caught:
        cli.main([str(a) for a in arguments])
    out, err = capture.readouterr()
    return Result(caught.value.code or 0, out, err)


def process(*arguments: object, **settings: Any) -> Result:
    """Run `gpukit ARGUMENTS…` in a process of its own."""
    command = [sys.executable, "-m", "gpukit", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **settings)
    return Result(done.returncode, done.stdout, done.stderr)


def write_set(
    folder: Path, *, size: tuple[int, int] = (28, 28), label: int | None = None, count: int = 40
) -> Path:
    """A small set of noise in IDX files; with `label`, that one is the last train label."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for part in ("train", "t10k"):
        images = rng.integers(0, 256, (count, *size), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        if label is not None and part == "train":
            labels[-1] = label
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            with (folder / f"{part}-{name}-ubyte").open("wb") as file:
                write_idx(file, array)
    return folder


def settings_of(run: Path) -> dict[str, Any]:
    """The settings of a run but for when it was last started."""
    values = json.loads((run / "settings.json").read_text())
    assert values.pop("started")
    return values


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below `folder`, with its content."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in sorted(folder.rglob("*"))
    }
