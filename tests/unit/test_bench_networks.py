"""The benchmarks of whole networks: that they run, tiny, and that a wrong contestant is found."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gpukit.emulator import compiler_problem

CHECKOUT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(
    not (CHECKOUT / "bench" / "networks.py").exists(), reason="no checkout with benchmarks"
)


needs_rival = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="no PyTorch to race against"
)
needs_compiler = pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments, *(["-c", code] if code else [])],
        cwd=CHECKOUT, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


@needs_rival
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
agree("one", [7.0, 6.5], [7.0001, 6.5001], 2e-4)
agree("one", [7.0, 6.5], [7.0, 6.6], 2e-4)
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
from bench.networks import GROUPS, weights
from gpukit.models import alexnet, lenet5
net = GROUPS["alexnet"].dry
model = alexnet(columns=1, groups=True, width=net.width, input_size=net.size, classes=net.classes)
for net, model in ((net, model), (GROUPS["lenet"].dry, lenet5())):
    print(json.dumps({p.name: p.shape for p in model.parameters}))
    print(json.dumps({name: array.shape for name, array in weights(net).items()}))
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    own, made, lenets, lenets_made = map(json.loads, done.stdout.splitlines())
    assert own == made
    assert lenets == lenets_made
    assert np.prod(own["fc8/kernel"]) > 0


@needs_rival
@needs_compiler
def test_alexnet_on_a_card_is_rehearsed_on_an_emulated_one():
    done = python("", "-m", "bench", "alexnet", "alexnet-inference", "--device", "emu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 cases rehearsed on emu:0, 0 wrong" in done.stdout


@needs_rival
def test_an_alexnet_that_computes_something_else_is_not_timed_on_a_card():
    code = """
from bench import networks, rival_sides
alexnets = ("alexnet", "alexnet-inference")
for group in alexnets:
    print(group, *networks.rehearsed(group, "cpu"))
rival_sides.MOMENTUM, rival_sides.LRN = 0.0, {**rival_sides.LRN, "size": 3}
for group in alexnets:
    try:
        networks.rehearsed(group, "cpu")
    except AssertionError as error:
        print(group, error)
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == [
        "alexnet eager channels_last",
        "alexnet-inference eager channels_last",
    ]
    assert lines[2].startswith("alexnet PyTorch, eager, computes [")
    assert lines[3].startswith("alexnet-inference PyTorch, eager, computes [")


@needs_rival
def test_peaks_on_a_card_are_those_of_each_pool_in_one_more_run():
    code = """
import sys, types
from types import SimpleNamespace
import torch
from bench import on_card

class Pool:
    def __init__(self, taken): self.live, self.taken, self.peak = taken, 2 * taken, 2 * taken
    def run(self, more): self.taken = max(self.taken, self.live + more); self.peak = self.taken
    def free_all_blocks(self): self.taken = self.live
    def reset(self): self.peak = self.taken
ours, theirs = Pool(100 * 10**6), Pool(300 * 10**6)
ours.total_bytes = lambda: ours.taken
sys.modules["cupy"] = SimpleNamespace(get_default_memory_pool=lambda: ours)
torch.cuda.synchronize = lambda: None
torch.cuda.empty_cache = theirs.free_all_blocks
torch.cuda.reset_peak_memory_stats = theirs.reset
torch.cuda.max_memory_reserved = lambda: theirs.peak
mb = 10**6
on_card.flushing = lambda: SimpleNamespace(nbytes=200 * mb)
our_mb = on_card.our_peak(lambda: ours.run(25 * mb))
print((our_mb, on_card.their_peak(lambda: theirs.run(50 * mb))))
"""
    done = python(code)
    assert done.stdout.strip() == "(125.0, 150.0)", done.stderr
