"""Runs commands, in this process where that is quick or in one of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gpukit import cli

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
