"""The benchmarks of whole networks: that they run, tiny, and that a wrong contestant is found."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

CHECKOUT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(
    not (CHECKOUT / "bench" / "alexnet.py").exists(), reason="no checkout with benchmarks"
)


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments, *(["-c", code] if code else [])],
        cwd=CHECKOUT, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="no PyTorch to race against")
def test_every_contestant_computes_the_same_and_is_timed(tmp_path):
    out = tmp_path / "out.json"
    done = python("", "-m", "bench", "alexnet", "alexnet-inference", "--dry", "--json", str(out))
    assert done.returncode == 0, done.stderr
    results = json.loads(out.read_text())["results"]
    names = {(r["group"], r["name"]) for r in results}
    wanted = {("alexnet", "grouped-batch-2"), ("alexnet", "columns-batch-2")}
    wanted.add(("alexnet-inference", "pytorch-batch-2"))
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
        wanted.add(("alexnet-inference", "onnxruntime-batch-2"))
    assert names == wanted
    for result in results:
        assert result["ours_ms"] > 0 and result["theirs_ms"] > 0
        assert 20 < result["ours_mb"] < 4000 and 20 < result["theirs_mb"] < 4000


def test_contestants_that_disagree_are_not_timed():
    code = """
from bench.contest import agree
class One: name = "one"
agree(One, [7.0, 6.5], [7.0001, 6.5001], 2e-4)
agree(One, [7.0, 6.5], [7.0, 6.6], 2e-4)
"""
    done = python(code)
    assert done.returncode == 1 and "AssertionError: one computes [7.0, 6.5]" in done.stderr


def test_each_contestant_keeps_its_own_times():
    code = """
from bench.contest import contest
class Steady:
    name = "onnxruntime"
    def __init__(self, seconds): self.seconds = seconds
    def run(self): return self.seconds
    def peak_mb(self): return 1.0
(result,) = contest("group", "case", [Steady(0.25)], Steady(0.5), 2)
print(result.ours_ms, result.theirs_ms, result.ratio, result.spread)
"""
    done = python(code)
    assert done.stdout.split() == ["250.0", "500.0", "0.5", "0.0"], done.stderr


def test_the_weights_fit_the_model():
    code = """
import json
from bench.alexnet import DRY, weights
from gpukit.models import alexnet
net = DRY[0]
model = alexnet(columns=1, groups=True, width=net.width, input_size=net.size, classes=net.classes)
print(json.dumps({p.name: p.shape for p in model.parameters}))
print(json.dumps({name: array.shape for name, array in weights(net).items()}))
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    own, made = map(json.loads, done.stdout.splitlines())
    assert own == made
    assert np.prod(own["fc8/kernel"]) > 0
