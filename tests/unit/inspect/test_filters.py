"""Which filters see the images, and how colour-specific filters made by hand are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from gpukit.inspect import pictures
from gpukit.inspect.filters import RANDOM, colour_report, colour_shares, first_filters
from gpukit.layers import Conv2D, Dense, Flatten
from gpukit.models import Sequential, alexnet, lenet5

NARROW = {"width": 0.1, "input_size": 67, "classes": 4, "seed": 1}


def pixel(*colours):
    """A filter of 1×len(colours) pixels as the only one of a kernel."""
    return np.array(colours, np.float64).reshape(1, -1, 3, 1)


@pytest.mark.parametrize(
    ("kernel", "share"),
    [
        (pixel((1, 1, 1)), 0.0),
        (pixel((-2, -2, -2), (5, 5, 5)), 0.0),
        (pixel((1, -1, 0)), 1.0),
        (pixel((1, 1, -2), (0, 3, -3)), 1.0),
        # (1, 0, 0): one third of its energy is on the axis of grey.
        (pixel((1, 0, 0)), 2 / 3),
        # Energies 3, all grey, and 2, all colour.
        (pixel((1, 1, 1), (1, -1, 0)), 2 / 5),
        (pixel((0, 0, 0)), 0.0),
    ],
)
def test_colour_share_by_hand(kernel, share):
    assert colour_shares(kernel) == pytest.approx([share], abs=1e-12)


def test_each_filter_has_its_own_share_whatever_its_size():
    one, other = pixel((1, 1, 1)), 1000 * pixel((1, -1, 0))
    assert colour_shares(np.concatenate([one, other], 3)) == pytest.approx([0, 1])


def test_random_filters_have_two_thirds():
    weights = np.random.default_rng(0).normal(size=(11, 11, 3, 400))
    assert colour_shares(weights).mean() == pytest.approx(RANDOM, abs=0.005)


def test_a_turn_of_the_axes_of_colour():
    """Naively, by projecting each pixel on the grey axis."""
    weights = np.random.default_rng(1).normal(size=(3, 2, 3, 5))
    grey = np.full(3, 1 / math.sqrt(3))
    for k in range(5):
        pixels = weights[..., k].reshape(-1, 3)
        outside = [p - (p @ grey) * grey for p in pixels]
        share = sum(o @ o for o in outside) / sum(p @ p for p in pixels)
        assert colour_shares(weights)[k] == pytest.approx(share)


def test_both_columns_and_their_devices():
    model = alexnet(devices=("cpu:0", "cpu:1"), **NARROW)
    a, b = first_filters(model)
    assert [(f.name, f.device) for f in (a, b)] == [("conv1a", "cpu"), ("conv1b", "cpu:1")]
    np.testing.assert_array_equal(a.weights, model.get_layer("conv1a").get_weights()[0])
    assert [line.partition(":")[0] for line in colour_report(model)] == [
        "conv1a on cpu", "conv1b on cpu",
    ]  # fmt: skip
    # The grouped form has the same filters in one layer.
    (whole,) = first_filters(alexnet(columns=1, groups=True, device="cpu", **NARROW))
    np.testing.assert_array_equal(np.concatenate([a.weights, b.weights], 3), whole.weights)


def test_grey_images_have_no_colour():
    assert [f.colour for f in first_filters(lenet5())] == [None]
    assert colour_report(lenet5()) == []


def test_a_convolution_that_does_not_see_the_image_is_better_than_none():
    model = Sequential([Dense(2, input_shape=(4, 4, 3)), Conv2D(3, 2, name="late"), Flatten()])
    assert [f.name for f in first_filters(model)] == ["late"]
    assert first_filters(Sequential([Dense(2, input_shape=(4,))])) == []


def test_the_sheet_shows_the_colours_of_both_columns(tmp_path):
    model = alexnet(devices=("cpu:0", "cpu:1"), **NARROW)
    for name, colour in (("conv1a", (1, -1, -1)), ("conv1b", (-1, -1, 1))):
        layer = model.get_layer(name)
        kernel, bias = layer.get_weights()
        layer.set_weights([np.broadcast_to(np.array(colour)[:, None], kernel.shape), bias])
    pictures.save_filters(tmp_path / "f.png", model)
    with Image.open(tmp_path / "f.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    red, blue = ((pixels == colour).all(2) for colour in ((255, 0, 0), (0, 0, 255)))
    assert red.sum() == blue.sum() == 4 * (11 * 9) ** 2, "4 filters a column, 9 pixels a weight"
    assert np.flatnonzero(red.any(1)).max() < np.flatnonzero(blue.any(1)).min(), "a above b"
