"""Several threads that use an unbuilt model or layer at once get what one thread would make."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from gpukit.layers import BatchNormalization, Conv2D, Dense, Flatten, Layer
from gpukit.models import Sequential
from gpukit.utils import set_random_seed

THREADS = 16
X = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)


def at_once(call):
    """What `call` gives in each of the threads, which begin together."""
    barrier = Barrier(THREADS)

    def work(_):
        barrier.wait()
        return np.asarray(getattr(made := call(), "array", made))

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, range(THREADS)))


class Block(Layer):
    def __init__(self):
        super().__init__()
        self.parts = [Conv2D(3, 3), BatchNormalization()]

    def call(self, inputs, training):
        for part in self.parts:
            inputs = part(inputs)
        return inputs


def model():
    return Sequential(
        [Conv2D(4, 3, activation="relu"), Block(), Flatten(), Dense(32), Dense(3)], seed=6
    )


@pytest.mark.parametrize("use", ["__call__", "predict"])
def test_a_model(use):
    alone = model()
    expected = alone.predict(X)
    for _ in range(5):
        together = model()
        for made in at_once(lambda one=together: getattr(one, use)(X)):
            np.testing.assert_allclose(made, expected, rtol=1e-6, atol=1e-7)
        for a, b in zip(alone.get_weights(), together.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("make", [lambda: Conv2D(4, 3), Block], ids=["layer", "block"])
def test_a_layer(make):
    set_random_seed(3)
    alone = make()
    expected = alone(X).numpy()
    for _ in range(5):
        set_random_seed(3)
        together = make()
        for made in at_once(lambda one=together: one(X)):
            np.testing.assert_allclose(made, expected, rtol=1e-6, atol=1e-7)
        for a, b in zip(alone.get_weights(), together.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
