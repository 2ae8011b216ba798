"""Functions of a feed: `Feed.map`, mixup and cutmix, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from gpukit import data, layers
from gpukit.data import ArrayFeed, Augment, ColourNoise
from gpukit.errors import DataError, SettingError
from gpukit.models import Sequential

RNG = np.random.default_rng(2)
X = RNG.uniform(0, 255, (10, 6, 8, 2)).astype(np.float32)
Y = np.eye(3, dtype=np.float32)[RNG.integers(0, 3, 10)]


def feed(**settings):
    return ArrayFeed(X, Y, 4, **settings)


def rng_of(seed, epoch, batch):
    sequence = np.random.SeedSequence(seed, spawn_key=(6, epoch, batch))
    return np.random.Generator(np.random.PCG64(sequence))


def test_a_function_changes_every_batch():
    made = feed(shuffle=False).map(lambda x, y: (x[:, ::2] + 1, y[:, :2]))
    assert made.image_shape == (3, 8, 2) and made.count == 10 and made.steps == 3
    x = np.concatenate([batch.x for batch in made.epoch()])
    np.testing.assert_array_equal(x, X[:, ::2] + 1)
    with pytest.raises(DataError, match="made 4 samples and 3 targets"):
        feed().map(lambda x, y: (x, y[1:]))


def test_layers_are_functions_of_a_feed():
    scale = layers.Rescaling(1 / 255)
    made = feed().map(lambda x, y: (scale(x), y))
    model = Sequential([layers.Flatten(), layers.Dense(3, activation="softmax")], seed=1)
    model.compile("sgd", "categorical_crossentropy")
    other = Sequential([layers.Flatten(), layers.Dense(3, activation="softmax")], seed=1)
    other.compile("sgd", "categorical_crossentropy")
    model.fit(made, epochs=2, verbose=0)
    other.fit(ArrayFeed(X * np.float32(1 / 255), Y, 4), epochs=2, verbose=0)
    np.testing.assert_array_equal(model.get_weights()[0], other.get_weights()[0])


def test_mixup():
    made = feed(shuffle=False).map(data.mixup(0.4), seed=7)
    for index, batch in enumerate(made.epoch(3)):
        rng, rows = rng_of(7, 3, index), slice(4 * index, 4 * index + 4)
        share, other = rng.beta(0.4, 0.4, len(batch.x)), rng.permutation(len(batch.x))
        for n, (a, b) in enumerate(zip(share, other, strict=True)):
            x, y = X[rows].astype(float), Y[rows].astype(float)
            np.testing.assert_allclose(batch.x[n], a * x[n] + (1 - a) * x[b], rtol=1e-5)
            np.testing.assert_allclose(batch.y[n], a * y[n] + (1 - a) * y[b], rtol=1e-5)
    np.testing.assert_allclose(batch.y.sum(axis=1), 1, rtol=1e-6)


def test_cutmix_mixes_targets_by_area():
    """The images say by their pixels how much of each is left."""
    x = np.repeat(np.arange(10.0, dtype=np.float32), 48).reshape(10, 6, 8, 1)
    made = ArrayFeed(x, np.eye(10, dtype=np.float32), 10, shuffle=False).map(data.cutmix(), seed=1)
    seen = set()
    for epoch in range(5):
        (batch,) = made.epoch(epoch)
        other = None
        for n in range(10):
            areas = np.bincount(batch.x[n].reshape(-1).astype(int), minlength=10) / 48
            np.testing.assert_allclose(batch.y[n], areas, atol=1e-6)
            seen.add(round(float(areas[n]), 3))
            other = np.flatnonzero(batch.x[n, ..., 0] != n)
            rows, columns = np.nonzero(batch.x[n, ..., 0] != n)
            if other.size:  # a rectangle
                assert (np.ptp(rows) + 1) * (np.ptp(columns) + 1) == other.size
    assert len(seen) > 10


@pytest.mark.parametrize("mix", [data.mixup(), data.cutmix()])
def test_an_epoch_resumes_with_the_same_bits(mix):
    made = feed().map(mix, seed=3)
    whole, rest = list(made.epoch(2)), list(feed().map(mix, seed=3).epoch(2, 1))
    for one, two in zip(whole[1:], rest, strict=True):
        np.testing.assert_array_equal(one.x, two.x)
        np.testing.assert_array_equal(one.y, two.y)
    assert (next(iter(made.epoch(0))).x != whole[0].x).any()


def test_what_cannot_be_mapped(tmp_path):
    with pytest.raises(DataError, match="use one-hot vectors"):
        ArrayFeed(X, Y.argmax(1), 4).map(data.mixup())
    with pytest.raises(DataError, match="takes images"):
        ArrayFeed(X.reshape(10, -1), Y, 4).map(data.cutmix())
    for made in (None, 3, (X,), (X, Y, Y)):
        with pytest.raises(DataError, match=r"map: the function returned .*; return \(x, y\)"):
            feed().map(lambda x, y, made=made: made)
    with pytest.raises(SettingError, match="alpha=0"):
        data.mixup(0)
    from data_on_disk import write_pictures

    from gpukit.data import ImageFeed, scan

    items = scan(write_pictures(tmp_path / "set", train=2, val=1)).train
    with pytest.raises(SettingError, match="gives 10 views"):
        ImageFeed(items, 4, 20, Augment("ten", flip=False)).map(lambda x, y: (x, y))
    colour = ColourNoise.from_covariance(np.eye(3))
    coloured = ImageFeed(items, 4, 20, Augment("random", flip=True, colour=colour))
    with pytest.raises(DataError, match="use an Augment without colour"):
        coloured.map(lambda x, y: (x / 255, y))
    assert coloured.map(lambda x, y: (255 - x, y)).dtype == np.uint8
