"""What a training step asks of the host, in numbers that do not depend on the machine's speed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
MOST_CALLS = 3400  # of Python functions in a step of LeNet-5; 7,500 before launches were prepared

pytestmark = pytest.mark.skipif(
    not (CHECKOUT / "bench" / "launch.py").exists(), reason="no checkout with benchmarks"
)

CODE = """
import json
from bench import launch
from gpukit.dispatch.primitive import registry
figures = launch.measure(rounds=1)
print(*launch.lines(figures), sep="\\n")
print(json.dumps({"figures": figures, "engine": type(registry.engine("emu")).__name__}))
"""


def test_a_step_of_lenet_stays_cheap_on_the_host() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=CHECKOUT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    *table, last = done.stdout.splitlines()
    said = json.loads(last)
    assert said["engine"] == "Emulator", "the engine that was put aside is back"
    assert "µs a launch" in "".join(table)
    for figures in said["figures"].values():
        assert figures["launches"] > 30 and figures["scalars"] > 250, "a whole step was counted"
        assert figures["calls of Python functions"] < MOST_CALLS
        assert 0 < figures["µs a launch, least"] <= figures["µs a launch"]
