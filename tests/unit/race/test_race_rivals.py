"""PyTorch as a rival: the same numbers, the same results, a process that ends."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from small_calls import RACED, SIZES, small

from gpukit.device import get_device
from gpukit.race import rivals
from gpukit.race.problems import problem
from gpukit.race.proof import SEEDS, Proof

torch = pytest.importorskip("torch")
torch_variants = pytest.importorskip("gpukit.race.torch_variants")


@pytest.mark.parametrize("primitive", RACED)
def test_every_way_solves_the_problem(primitive):
    if primitive in rivals.LACKING:
        pytest.skip(rivals.LACKING[primitive])
    made = problem(primitive, small(primitive))
    proof = Proof(made, get_device("cpu"))
    proof.fill()
    variants, back = torch_variants.variants(made, made.arrays(SEEDS[1]), "cpu", compiled=False)
    assert variants
    for name, variant in variants.items():
        found = back(variant())
        if primitive == "dropout":  # its masks are its own
            assert is_dropout(variant().numpy(), proof.arrays[0])
        else:
            assert any(result is not None for result in found)
        assert proof.compare(found) == "", name


def is_dropout(y, x):
    kept = y != 0
    return np.array_equal(y[kept], 2 * x[kept]) and 0.3 < kept.mean() < 0.7


def test_images_are_offered_in_both_layouts():
    made = problem("conv2d", SIZES["conv"])
    variants, _ = torch_variants.variants(made, made.arrays(1), "cpu", compiled=False)
    assert list(variants) == ["contiguous", "channels_last"]


def test_the_process_answers_and_ends():
    made = problem("conv2d", SIZES["conv"])
    with rivals.HostRival() as rival:
        process = rival._process
        assert rival.describe()["torch"] == torch.__version__
        for one in (problem("argmax", SIZES["reduction"]), problem("sgd_update", (37,)), made):
            rival.prepare(one)
            proof = Proof(one, get_device("cpu"))
            proof.fill()
            assert proof.compare(rival.result()) == ""
        assert rival.fastest() in ("contiguous", "channels_last")
        assert rival.seconds() > 0
        with pytest.raises(rivals.RivalError, match="no function of their place"):
            rival.prepare(problem("philox", SIZES["map"]))
        with pytest.raises(rivals.RivalError, match="PyTorch cannot: KeyError"):
            rival._told("magic")
        process.kill()
        process.wait()
        with pytest.raises(rivals.RivalError, match="PyTorch's process ended"):
            rival.describe()
    assert process.poll() is not None


def test_the_process_ends_with_its_parent():
    """Killed without a chance to clean up, the race leaves nobody behind."""
    program = (
        "import os, signal; from gpukit.race.rivals import HostRival; rival = HostRival(); "
        "rival.describe(); print(rival._process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    child = int(done.stdout)
    waiting = f"import os, time\nwhile os.path.exists('/proc/{child}/fd/0'): time.sleep(0.05)"
    subprocess.run([sys.executable, "-c", waiting], timeout=30, check=True)


def test_results_that_both_hold_differently_are_not_compared():
    for primitive in ("max_pool2d", "bias_relu_lrn_pool"):
        y, index = results_of(primitive)
        assert isinstance(y, np.ndarray)
        assert index is None
    assert results_of("dropout") == [None]


def results_of(primitive):
    made = problem(primitive, small(primitive))
    variants, back = torch_variants.variants(made, made.arrays(1), "cpu", compiled=False)
    return back(next(iter(variants.values()))())


def test_without_pytorch(monkeypatch):
    monkeypatch.setattr(rivals.importlib.util, "find_spec", lambda name: None)
    assert "pip install torch" in rivals.missing()
