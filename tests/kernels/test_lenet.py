"""LeNet-5 trained by the CUDA kernels, held to the CPU's own training."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache

import numpy as np
import pytest

from gpukit import data, models, optimizers
from gpukit.emulator.build import compiler_problem
from gpukit.training import loop

pytestmark = pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())

STEPS, BATCH = 8, 16


@cache
def losses(device: str, dtype: str) -> np.ndarray:
    """Losses of the first steps, and the sum of the weights after them."""
    images = data.load(limit=STEPS * BATCH)
    model = models.lenet5(seed=0, device=device, dtype=dtype)
    model.compile(optimizers.SGD(0.03, momentum=0.9), "sparse_categorical_crossentropy")
    model.normalise = data.Normalise.from_images(images.train_images)
    feed = data.batches(images.train_images, images.train_labels, BATCH, normalise=model.normalise)
    figures = [loop.train_step(model, model.to_device(x), y)["loss"][0] / BATCH for x, y in feed]
    assert len(figures) == STEPS
    return np.array([*figures, sum(float(w.sum(dtype=np.float64)) for w in model.get_weights())])


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("float64", 1e-9)])
def test_the_first_steps_are_those_of_the_cpu(dtype: str, bound: float) -> None:
    there, here = losses("emu:0", dtype), losses("cpu", dtype)
    np.testing.assert_allclose(there[:STEPS], here[:STEPS], rtol=0, atol=bound)
    # The model must have learnt for equal losses to mean something.
    assert here[STEPS - 1] < here[0] - 0.01


def test_twins_compute_the_same_bits() -> None:
    np.testing.assert_array_equal(losses("emu:1", "float32"), losses("emu:0", "float32"))


def test_the_command_trains_on_emu(tmp_path) -> None:  # type: ignore[no-untyped-def]
    options = ["--limit", "64", "--epochs", "1", "--json", "--quiet"]
    command = ["train", "lenet5", "--device", "emu", *options, "--out"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "gpukit", *command, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["device"] == "emu:0"
