"""What is drawn for a picture: fixed by (seed, epoch, index), and distributed as it should be."""

from __future__ import annotations

import json

import numpy as np
import pytest

from gpukit.data import Augment, ColourNoise
from gpukit.errors import CheckpointError, SettingError

COVARIANCE = np.array([[4900.0, 4500, 4100], [4500, 4800, 4600], [4100, 4600, 5500]])
NOISE = ColourNoise.from_covariance(COVARIANCE)


def draws(augment: Augment, count: int = 4000, square: int = 256, size: int = 227):
    found = [augment.draw(0, index % 7, index, square, size) for index in range(count)]
    return [crops for crops, _ in found], np.array([shift for _, shift in found])


def test_crops_and_flips_are_uniform():
    crops, _ = draws(Augment())
    assert all(len(views) == 1 for views in crops)
    places = np.array([views[0] for views in crops])
    for column in (0, 1):
        counts = np.bincount(places[:, column], minlength=30)
        assert len(counts) == 30  # 256 - 227 + 1 places
        # χ² of 29 degrees of freedom: above 58.3 once in a thousand
        assert ((counts - 4000 / 30) ** 2 / (4000 / 30)).sum() < 58.3
    assert 0.47 < places[:, 2].mean() < 0.53
    assert abs(np.corrcoef(places.T.astype(float)) - np.eye(3)).max() < 0.06


def test_colour_noise_has_the_covariance_of_the_pixels():
    _, shifts = draws(Augment(colour=NOISE), 20_000)
    assert np.abs(shifts.mean(axis=0)).max() < 0.2
    np.testing.assert_allclose(np.cov(shifts.T), 0.01 * COVARIANCE, rtol=0.05)
    np.testing.assert_allclose(np.linalg.norm(NOISE.axes, axis=1), 1)
    assert NOISE.deviations == tuple(sorted(NOISE.deviations, reverse=True))
    # Along one axis only: the shift is that axis, times its deviation, times the strength.
    np.testing.assert_allclose(
        NOISE.shift((2.0, 0, 0)), 0.2 * NOISE.deviations[0] * np.array(NOISE.axes[0])
    )


def test_grey_pictures_have_one_colour():
    grey = ColourNoise.from_covariance(np.full((3, 3), 100.0))
    np.testing.assert_allclose(grey.deviations, [300**0.5, 0, 0], atol=1e-5)
    np.testing.assert_allclose(grey.axes[0], np.full(3, 3**-0.5))


def test_draws_are_fixed_by_seed_epoch_and_index():
    augment = Augment(colour=NOISE)
    first = augment.draw(1, 2, 3, 256, 227)
    assert first == augment.draw(1, 2, 3, 256, 227)
    for other in ((0, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert augment.draw(*other, 256, 227) != first
    # Written down, so that no other version can change it unseen.
    crops, shift = augment.draw(0, 0, 0, 256, 227)
    assert crops == [(9, 0, False)]
    np.testing.assert_allclose(shift, SHIFT, atol=1e-5)


SHIFT = [-0.543465, 3.017105, -2.813271]


def test_fixed_crops():
    assert draws(Augment("centre", False), 3)[0] == [[(14, 14, False)]] * 3
    (views,), shifts = draws(Augment("ten", False), 1)
    corners = [(0, 0), (0, 29), (29, 0), (29, 29), (14, 14)]
    assert views == [(*place, flip) for flip in (False, True) for place in corners]
    assert not shifts.any()
    assert not Augment("centre", False).random and Augment("centre", False, NOISE).random
    assert draws(Augment(), 1, 32, 32)[0][0][0][:2] == (0, 0)


def test_settings_in_json():
    for augment in (Augment(), Augment("ten", False), Augment(colour=NOISE)):
        assert Augment.from_config(json.loads(json.dumps(augment.config()))) == augment
    good = Augment(colour=NOISE).config()
    for wrong in ({}, {**good, "crop": "round"}, {**good, "colour": {}}, {**good, "colour": 3}):
        with pytest.raises(CheckpointError):
            Augment.from_config(wrong)
    with pytest.raises(CheckpointError):
        Augment.from_config({**good, "colour": {**good["colour"], "axes": [[1.0, 0]]}})
    for settings in (("round",), ("ten", True)):
        with pytest.raises(SettingError):
            Augment(*settings)
