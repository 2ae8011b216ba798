"""A network with branches and batch norm trained by kernels: no step runs a definition in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from gpukit import layers, models, optimizers
from gpukit.dispatch.primitive import Primitive
from gpukit.emulator import compiler_problem
from gpukit.training import loop

pytestmark = pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())

OPTIMISERS = {
    "adam": lambda: optimizers.Adam(0.01),
    "rmsprop": lambda: optimizers.RMSprop(0.01, momentum=0.5),
    "adagrad": lambda: optimizers.Adagrad(0.05),
}


def branches(device: str) -> models.Model:
    """Two branches, joined and normalised; pooling, an activation of each kind."""
    inputs = layers.Input((9, 8, 3))
    left = layers.Conv2D(4, 3, padding="same")(inputs)
    left = layers.Activation("leaky_relu")(layers.BatchNormalization()(left))
    right = layers.Conv2D(3, 1, activation="elu")(inputs)
    joined = layers.Concatenate()([left, right])
    pooled = layers.MaxPooling2D(2)(joined)
    flat = layers.Flatten()(layers.BatchNormalization()(pooled))
    outputs = layers.Dense(5, activation="softmax")(flat)
    return models.Model(inputs, outputs, seed=0, device=device, dtype="float64")


def first_steps(device: str, optimiser: str) -> np.ndarray:
    numbers = np.random.default_rng(0)
    x = numbers.standard_normal((3, 6, 9, 8, 3))
    y = numbers.integers(0, 5, (3, 6))
    model = branches(device)
    model.compile(OPTIMISERS[optimiser](), "sparse_categorical_crossentropy")
    steps = [loop.train_step(model, model.to_device(a), b)["loss"][0] / 6 for a, b in zip(x, y)]
    return np.array([*steps, *model.predict(x[0]).reshape(-1)])


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_first_steps_are_those_of_the_cpu(monkeypatch, optimiser):
    expected = first_steps("cpu", optimiser)
    chosen = Primitive.choose
    fallen = set()

    def choose(self, device, *rest):
        way = chosen(self, device, *rest)
        if device.kind == "emu" and way.name == "reference":
            fallen.add(self.name)
        return way

    monkeypatch.setattr(Primitive, "choose", choose)
    ours = first_steps("emu", optimiser)
    # float64: a bias before batch norm has no gradient but roundings, and Adam makes steps of those
    # that pass epsilon.
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-8)
    assert fallen == set()
