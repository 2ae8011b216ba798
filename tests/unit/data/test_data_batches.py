"""Order, split and normalisation: what a seed fixes, and what the numbers are."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest

from gpukit.data import Normalise, batch_count, batches, train_validation_split
from gpukit.errors import DataError, DTypeError, SettingError, ShapeError

RNG = np.random.default_rng(1)
IMAGES = RNG.integers(0, 256, (103, 5, 4, 3), dtype=np.uint8)
LABELS = np.arange(103)


def joined(**settings) -> tuple[np.ndarray, np.ndarray]:
    parts = list(batches(IMAGES, LABELS, 10, **settings))
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


def test_an_epoch_has_every_image_once_and_its_label() -> None:
    x, y = joined(seed=4, epoch=2)
    assert sorted(y) == LABELS.tolist() and y.tolist() != LABELS.tolist()
    assert x.dtype == np.float32
    np.testing.assert_allclose(x, IMAGES[y] / 255, rtol=2e-7)


def test_order_is_fixed_by_seed_and_epoch() -> None:
    np.testing.assert_array_equal(joined(seed=4, epoch=2)[1], joined(seed=4, epoch=2)[1])
    for other in ({"seed": 4, "epoch": 3}, {"seed": 5, "epoch": 2}):
        assert (joined(**other)[1] != joined(seed=4, epoch=2)[1]).any()
    # Written down, so that another version of NumPy or of gpukit cannot change it unseen.
    assert joined(seed=0, epoch=0)[1][:8].tolist() == [78, 48, 77, 73, 37, 28, 16, 94]


def test_start_resumes_within_an_epoch() -> None:
    whole = list(batches(IMAGES, LABELS, 10, seed=7, epoch=1))
    for start in (0, 1, 6, 10, 11, 50):
        rest = list(batches(IMAGES, LABELS, 10, seed=7, epoch=1, start=start))
        assert len(rest) == max(11 - start, 0)
        for (x, y), (x_whole, y_whole) in zip(rest, whole[start:], strict=True):
            np.testing.assert_array_equal(x, x_whole)
            np.testing.assert_array_equal(y, y_whole)


def test_last_batch() -> None:
    assert [len(y) for _, y in batches(IMAGES, LABELS, 10)] == [10] * 10 + [3]
    assert [len(y) for _, y in batches(IMAGES, LABELS, 10, drop_last=True)] == [10] * 10
    assert batch_count(103, 10) == 11 and batch_count(103, 10, drop_last=True) == 10
    assert list(batches(IMAGES[:0], LABELS[:0], 10)) == []


def test_unshuffled_and_other_types_pass_through() -> None:
    assert joined(shuffle=False)[1].tolist() == LABELS.tolist()
    floats = IMAGES.astype(np.float64)
    x, _ = next(batches(floats, LABELS, 10, shuffle=False))
    assert x.dtype == np.float64
    np.testing.assert_array_equal(x, floats[:10])


@pytest.mark.parametrize(
    "settings", [{"batch_size": 0}, {"seed": -1}, {"start": -1}, {"epoch": -1}]
)
def test_bad_settings_raise_at_the_call(settings) -> None:
    with pytest.raises(SettingError):
        batches(IMAGES, LABELS, **{"batch_size": 10, **settings})


def test_lengths_must_agree() -> None:
    with pytest.raises(DataError, match="103 inputs and 5 targets"):
        batches(IMAGES, LABELS[:5], 10)
    with pytest.raises(DataError, match="103 images and 5 labels"):
        train_validation_split(IMAGES, LABELS[:5])


def test_split() -> None:
    x, y, x_validation, y_validation = train_validation_split(IMAGES, LABELS, 0.1, seed=3)
    assert len(y_validation) == 10 and len(y) == 93
    assert sorted([*y, *y_validation]) == LABELS.tolist()
    np.testing.assert_array_equal(x, IMAGES[y])
    np.testing.assert_array_equal(x_validation, IMAGES[y_validation])
    again = train_validation_split(IMAGES, LABELS, 0.1, seed=3)[3]
    np.testing.assert_array_equal(again, y_validation)
    assert (train_validation_split(IMAGES, LABELS, 0.1, seed=4)[3] != y_validation).any()


@pytest.mark.parametrize(
    ("count", "fraction", "held"),
    [(103, 0, 0), (5, 0.1, 1), (1, 0.5, 0), (2, 0.99, 1), (0, 0.1, 0)],
)
def test_small_splits(count: int, fraction: float, held: int) -> None:
    parts = train_validation_split(IMAGES[:count], LABELS[:count], fraction)
    assert (len(parts[1]), len(parts[3])) == (count - held, held)


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan")])
def test_bad_fraction(fraction: float) -> None:
    with pytest.raises(SettingError, match="validation split"):
        train_validation_split(IMAGES, LABELS, fraction)


@pytest.mark.parametrize("channels", [1, 3])
def test_normalise_from_images(channels: int) -> None:
    images = IMAGES[..., :channels].copy()
    normalise = Normalise.from_images(images)
    y = normalise(images)
    assert y.dtype == np.float32 and y.shape == images.shape
    np.testing.assert_allclose(y.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=(0, 1, 2)), 1, atol=1e-5)
    exact = images / 255.0
    expected = (exact - exact.mean(axis=(0, 1, 2))) / exact.std(axis=(0, 1, 2))
    np.testing.assert_allclose(y, expected, atol=2e-6)
    np.testing.assert_allclose(normalise(images[0]), expected[0], atol=2e-6)


def test_one_mean_for_all_channels_and_a_constant_channel() -> None:
    y = Normalise(mean=(0.5,), std=(0.25,))(IMAGES)
    np.testing.assert_allclose(y, (IMAGES / 255 - 0.5) / 0.25, atol=1e-6)
    flat = np.full((3, 2, 2, 1), 7, np.uint8)
    np.testing.assert_allclose(Normalise.from_images(flat)(flat), 0, atol=1e-6)


def test_config_goes_through_json_exactly() -> None:
    for normalise in (Normalise(), Normalise.from_images(IMAGES)):
        again = Normalise.from_config(json.loads(json.dumps(normalise.config())))
        assert again == normalise
        np.testing.assert_array_equal(again(IMAGES), normalise(IMAGES))


def test_normalise_refuses() -> None:
    with pytest.raises(DTypeError, match="float64; uint8"):
        Normalise()(IMAGES / 255)
    with pytest.raises(ShapeError, match="2 channels"):
        Normalise(mean=(0.5, 0.5), std=(1, 1))(IMAGES)
    with pytest.raises(ShapeError):
        Normalise.from_images(IMAGES[:0])
    for settings in (
        {"scale": 0.0},
        {"scale": float("nan")},
        {"mean": (0.5,)},
        {"mean": (0.5,), "std": (0.0,)},
        {"mean": (0.5,), "std": (1.0, 1.0)},
        {"mean": (float("inf"),), "std": (1.0,)},
    ):
        with pytest.raises(SettingError):
            Normalise(**settings)


def test_a_batch_is_cheap() -> None:
    images = RNG.integers(0, 256, (6400, 28, 28, 1), dtype=np.uint8)
    labels = np.zeros(6400, np.int64)
    iterator = batches(images, labels, 64)
    x, _ = next(iterator)
    tracemalloc.start()
    try:
        for _ in range(99):
            next(iterator)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * x.nbytes < images.nbytes  # made from its own images, not from all of them
