"""Bits flipped while a step of training is computed twice: each is found, and its place named."""

from __future__ import annotations

import json
import random
import resource

import numpy as np
import pytest
from harness import count

from gpukit import layers, models
from gpukit.autograd import Tensor
from gpukit.data.feed import Batch
from gpukit.device import to_host
from gpukit.errors import ReplayError
from gpukit.training.replay import Bits, take_step_twice
from gpukit.training.step import Work, in_words

CHUNKS = 4
X = np.random.default_rng(0).normal(size=(12, 12, 12, 3)).astype(np.float32)
Y = np.arange(12) % 5


def make() -> models.Sequential:
    model = models.Sequential(
        [
            layers.Conv2D(8, 3, activation="relu", input_shape=(12, 12, 3), name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.MaxPooling2D(2, name="pool"),
            layers.Flatten(name="flatten"),
            layers.Dropout(0.3, name="drop"),
            layers.Dense(10, activation="tanh", kernel_regularizer="l2", name="hidden"),
            layers.Dense(5, activation="softmax", name="output"),
        ],
        device="cpu",
        seed=1,
    )
    model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    return model


class Flipping(Bits):
    """Flips one bit of the array that is shown as number `at`, counted over both computations."""

    shown = 0
    at = -1
    flipped = ""
    draw = random.Random()

    def see(self, stage, place, what, array):
        if Flipping.shown == Flipping.at:
            raw = to_host(array._array if isinstance(array, Tensor) else array)
            if raw.flags.writeable and raw.size:
                number = self.draw.randrange(raw.size)
                value = np.ascontiguousarray(raw.reshape(-1)[number : number + 1])
                value.view(np.uint8)[self.draw.randrange(raw.itemsize)] ^= 1 << self.draw.randrange(
                    8
                )
                raw[np.unravel_index(number, raw.shape)] = value[0]
                Flipping.flipped = in_words(stage, what)
            else:  # ones that a gradient begins with, repeated without memory of their own
                Flipping.at += 1
        Flipping.shown += 1
        super().see(stage, place, what, array)


@pytest.fixture
def found(request):
    """Counts for the summary line that ends a run of tests/faults."""

    def note(kind: str) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        request.node.user_properties.append(("fault", json.dumps([kind, peak])))

    return note


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_flipped_bits_are_found_and_named(found, chunk):
    work = Work(Batch(X, Y), 1 + chunk % 2)
    model = make()
    model.prepare(X)
    Flipping.shown, Flipping.at = 0, -1
    take_step_twice(model, work, Flipping)  # and nothing is reported where nothing is flipped
    shown = Flipping.shown
    for case in range(count(1000, CHUNKS)):
        Flipping.draw = random.Random(f"flip {chunk} {case}")
        Flipping.shown, Flipping.at = 0, Flipping.draw.randrange(shown)
        Flipping.flipped = ""
        model = make() if case % 20 == 0 else model
        with np.errstate(all="ignore"), pytest.raises(ReplayError) as caught:
            take_step_twice(model, work, Flipping)
        assert f"first in {Flipping.flipped}: " in str(caught.value), (chunk, case)
        assert Flipping.flipped
        found("flipped bits")


def test_a_replay_changes_nothing():
    plain, twice = make(), make()
    for model, replay in ((plain, 0), (twice, 2)):
        model.fit(X, Y, batch_size=5, epochs=2, verbose=0, replay=replay)
    for a, b in zip(plain.get_weights(), twice.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert plain.context.step == twice.context.step == 6
    assert plain.training_state.history[-1]["loss"] == twice.training_state.history[-1]["loss"]
