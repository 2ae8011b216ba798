"""Layers that prepare and augment images: values against definitions in float64, one by one."""

from __future__ import annotations

import numpy as np
import pytest

from gpukit import Tensor, get_device, layers, to_host
from gpukit.errors import SettingError, ShapeError
from gpukit.layers import sampling
from gpukit.models import Sequential, load_model

RNG = np.random.default_rng(8)
X = RNG.uniform(0, 255, (6, 5, 7, 2))

AUGMENTATIONS = {
    "RandomFlip": {},
    "RandomCrop": {"height": 3, "width": 4},
    "RandomTranslation": {"height_factor": 0.6, "width_factor": (-0.4, 0.9)},
    "RandomZoom": {"height_factor": 0.4, "width_factor": (-0.3, 0.2)},
    "RandomRotation": {"factor": 0.2},
    "RandomBrightness": {"factor": 0.3},
    "RandomContrast": {"factor": (0.5, 0.9)},
}


def made(name, **settings):
    return getattr(layers, name)(**{"seed": 3, **AUGMENTATIONS[name], **settings})


def draws(columns):
    """What a layer by itself, of seed 3, draws in its first call."""
    return sampling.uniforms({"seed": 3, "layer": 0, "step": 0}, len(X), columns)


def extended(at, size, mode):
    """The pixel that stands at place `at` of an axis which goes on beyond its ends; None: none."""
    if mode == "constant":
        return at if 0 <= at < size else None
    if mode == "nearest":
        return min(max(at, 0), size - 1)
    axis = list(range(size))
    period = axis + axis[::-1] if mode == "reflect" else axis
    return period[at % len(period)]


def value(image, y, x, interpolation, mode, fill):
    """The image at (y, x), between pixels, in float64."""
    if interpolation == "nearest":
        taps = [(int(np.floor(y + 0.5)), int(np.floor(x + 0.5)), 1.0)]
    else:
        top, left = int(np.floor(y)), int(np.floor(x))
        around = [(top + a, left + b) for a in (0, 1) for b in (0, 1)]
        taps = [(r, c, (1 - abs(y - r)) * (1 - abs(x - c))) for r, c in around]
    total = np.zeros(image.shape[2])
    for row, column, share in taps:
        r, c = extended(row, image.shape[0], mode), extended(column, image.shape[1], mode)
        total += share * (fill if r is None or c is None else image[r, c])
    return total


def moved(place, interpolation="bilinear", mode="reflect", fill=0.0):
    """All images, pixel (i, j) of image n read at place(n, i, j)."""
    out = np.zeros_like(X)
    for n, i, j in np.ndindex(X.shape[:3]):
        out[n, i, j] = value(X[n], *place(n, i, j), interpolation, mode, fill)
    return out


FILLINGS = [
    ("bilinear", "reflect", 0.0), ("bilinear", "wrap", 0.0), ("bilinear", "nearest", 0.0),
    ("bilinear", "constant", 9.5), ("nearest", "reflect", 0.0), ("nearest", "constant", 0.0),
]  # fmt: skip


def check(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("interpolation, mode, fill", FILLINGS)
def test_translation(interpolation, mode, fill):
    layer = made("RandomTranslation", interpolation=interpolation, fill_mode=mode, fill_value=fill,
                 dtype="float64")  # fmt: skip
    u = draws(2)
    down, right = (-0.6 + 1.2 * u[:, 0]) * 5, (-0.4 + 1.3 * u[:, 1]) * 7
    expected = moved(lambda n, i, j: (i - down[n], j - right[n]), interpolation, mode, fill)
    check(layer(X, training=True), expected)


@pytest.mark.parametrize("interpolation, mode, fill", FILLINGS)
def test_rotation(interpolation, mode, fill):
    layer = made("RandomRotation", interpolation=interpolation, fill_mode=mode, fill_value=fill,
                 dtype="float64")  # fmt: skip
    angle = (-0.2 + 0.4 * draws(1)[:, 0]) * 2 * np.pi

    def place(n, i, j):
        y, x = i - 2, j - 3
        return (
            2 + np.sin(angle[n]) * x + np.cos(angle[n]) * y,
            3 + np.cos(angle[n]) * x - np.sin(angle[n]) * y,
        )

    check(layer(X, training=True), moved(place, interpolation, mode, fill))


def test_a_quarter_turn_is_counter_clockwise():
    x = RNG.standard_normal((2, 5, 5, 3))
    layer = layers.RandomRotation((0.25, 0.25), dtype="float64")
    check(layer(x, training=True), np.rot90(x, axes=(1, 2)))


@pytest.mark.parametrize("interpolation, mode, fill", FILLINGS)
@pytest.mark.parametrize("width", [(-0.3, 0.2), None])
def test_zoom(interpolation, mode, fill, width):
    layer = made("RandomZoom", interpolation=interpolation, fill_mode=mode, fill_value=fill,
                 width_factor=width, dtype="float64")  # fmt: skip
    u = draws(2)
    tall = 1 + (-0.4 + 0.8 * u[:, 0])
    wide = tall if width is None else 1 + (-0.3 + 0.5 * u[:, 1])
    expected = moved(
        lambda n, i, j: (2 + (i - 2) * tall[n], 3 + (j - 3) * wide[n]), interpolation, mode, fill
    )
    check(layer(X, training=True), expected)


@pytest.mark.parametrize("mode", ["horizontal", "vertical", "horizontal_and_vertical"])
def test_flip(mode):
    found = made("RandomFlip", mode=mode, dtype="float64")(X, training=True)
    flips = draws(2) < 0.5
    assert flips.any(axis=0).all() and not flips.all(axis=0).any()
    for n, (vertical, horizontal) in enumerate(flips):
        expected = X[n, ::-1] if vertical and "vertical" in mode else X[n]
        expected = expected[:, ::-1] if horizontal and "horizontal" in mode else expected
        np.testing.assert_array_equal(found[n], expected)


def test_crop():
    layer = made("RandomCrop", dtype="float64")
    u = draws(2)
    found = layer(X, training=True)
    assert layer.compute_output_shape(X.shape) == found.shape == (6, 3, 4, 2)
    for n in range(6):
        top, left = int(u[n, 0] * 3), int(u[n, 1] * 4)
        np.testing.assert_array_equal(found[n], X[n, top : top + 3, left : left + 4])
    # At test time the largest window of that ratio, 5×6 pixels, resized.
    check(layer(X), layers.Resizing(3, 4, dtype="float64")(X[:, :, :6]))


def test_brightness_and_contrast():
    u = draws(1)[:, 0].reshape(6, 1, 1, 1)
    brighter = np.clip(X + (-0.3 + 0.6 * u) * 255, 0, 255)
    check(made("RandomBrightness", dtype="float64")(X, training=True), brighter)
    mean = X.mean(axis=(1, 2), keepdims=True)
    contrast = np.clip((X - mean) * (0.5 + 1.4 * u) + mean, 0, 255)
    check(made("RandomContrast", dtype="float64")(X, training=True), contrast)
    unit = layers.RandomBrightness((0.5, 0.5), value_range=(-1, 1), dtype="float64")
    check(unit(X / 300, training=True), np.clip(X / 300 + 1, -1, 1))


@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("size", [(5, 7), (3, 3), (11, 4), (1, 1)])
def test_resizing(size, interpolation, crop):
    layer = layers.Resizing(*size, interpolation, crop, dtype="float64")
    x = X
    if crop:
        rows, columns = min(5, int(7 * size[0] / size[1])), min(7, int(5 * size[1] / size[0]))
        top, left = (5 - rows) // 2, (7 - columns) // 2
        x = X[:, top : top + rows, left : left + columns]
    scale = np.array(x.shape[1:3]) / size
    expected = np.zeros((6, *size, 2))
    for n, i, j in np.ndindex(6, *size):
        y, z = ((np.array([i, j]) + 0.5) * scale) - 0.5
        expected[n, i, j] = value(x[n], y, z, interpolation, "nearest", 0.0)
    # The shares of pixels are float32.
    np.testing.assert_allclose(layer(X), expected, rtol=1e-5, atol=1e-4)


def test_rescaling_and_centre_crop():
    check(layers.Rescaling(1 / 127.5, -1, dtype="float64")(X), X / 127.5 - 1)
    by_channel = layers.Rescaling([2.0, 3.0], (0.5, 0.0), dtype="float64")
    check(by_channel(X), X * [2, 3] + [0.5, 0])
    with pytest.raises(ShapeError, match="scale has 2 numbers for 3 channels"):
        layers.Rescaling([1, 2]).compute_output_shape((None, 4, 4, 3))
    check(layers.CenterCrop(2, 4, dtype="float64")(X), X[:, 1:3, 1:5])
    assert layers.CenterCrop(9, 9)(X.astype(np.float32)).shape == (6, 9, 9, 2)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_only_training_changes_images_and_each_step_draws_anew(name):
    layer = made(name, dtype="float64")
    one, two = layer(X, training=True), layer(X, training=True)
    assert (one != two).any()
    again = made(name, dtype="float64")
    np.testing.assert_array_equal(again(X, training=True), one)
    if name != "RandomCrop":
        np.testing.assert_array_equal(layer(X, training=False), X)
    assert layer(X[:0], training=True).shape[0] == 0


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_micro_batches_and_settings_draw_the_same(name):
    """A batch in shares is a batch; a layer from its settings is the layer."""
    layer = made(name, dtype="float64")
    copy = layers.from_config(layer.get_config())
    whole = layer(X, training=True)
    np.testing.assert_array_equal(copy(X, training=True), whole)
    parts = []
    for first in (0, 4):
        part = made(name, dtype="float64")
        part.context = layers.Context(3)
        part.context.sample = first
        parts.append(part(X[first : first + 4], training=True))
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_gradients_pass_through(name):
    x = Tensor(X.copy(), requires_grad=True)
    out = made(name, dtype="float64")(x, training=True)
    weights = RNG.standard_normal(out.shape)
    (out * weights).sum().backward()
    step, direction = 1e-4, RNG.standard_normal(X.shape)
    ends = [
        (made(name, dtype="float64")(X + sign * step * direction, training=True) * weights).sum()
        for sign in (1, -1)
    ]
    np.testing.assert_allclose(
        (x.grad.numpy() * direction).sum(), (ends[0] - ends[1]) / (2 * step), rtol=1e-5
    )


def test_a_model_augments_from_its_own_stream_and_is_saved(tmp_path):
    def model():
        net = Sequential(
            [*(made(name, seed=None) for name in AUGMENTATIONS), layers.Flatten(), layers.Dense(2)],
            seed=4,
        )
        net.compile("sgd", "mse")
        return net

    x, y = (X / 255).astype(np.float32), RNG.standard_normal((6, 2)).astype(np.float32)
    one, two, shared = model(), model(), model()
    one.fit(x, y, batch_size=3, epochs=2, verbose=0)
    two.fit(x, y, batch_size=3, epochs=2, verbose=0)
    shared.fit(x, y, batch_size=3, epochs=2, verbose=0, accumulate=3)
    for a, b, c in zip(one.get_weights(), two.get_weights(), shared.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, c, rtol=1e-4, atol=1e-6)
    one.save(tmp_path / "m.gpukit")
    loaded = load_model(tmp_path / "m.gpukit")
    np.testing.assert_array_equal(loaded.predict(x), one.predict(x))


def test_bytes_come_as_levels_to_layers_that_take_levels():
    """As in Keras: Rescaling(1/255) of uint8 images gives 0 to 1, not 0 to 1/255."""
    x = RNG.integers(0, 256, (4, 3, 3, 1), dtype=np.uint8)

    def outputs(*first):
        return Sequential([*first, layers.Flatten()], seed=1).predict(x)

    flat = x.reshape(4, 9)
    np.testing.assert_allclose(outputs(layers.Rescaling(1 / 255)), flat / 255, rtol=1e-6)
    np.testing.assert_allclose(outputs(layers.RandomBrightness(0.1)), flat, rtol=1e-6)
    for first in ([], [layers.RandomFlip()], [layers.RandomBrightness(0.1, value_range=(0, 1))]):
        np.testing.assert_allclose(outputs(*first), flat / 255, rtol=1e-6)


@pytest.mark.parametrize("name", ["RandomFlip", "RandomTranslation", "RandomContrast"])
def test_devices_give_the_same(name):
    x = X.astype(np.float32)
    found = []
    for device in ("cpu", "cpu:1", "emu"):
        net = Sequential([made(name)], device=device, seed=1)
        found.append(to_host(net(get_device(device).asarray(x), training=True)))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[0], found[2], rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: layers.RandomFlip("diagonal"), "mode='diagonal': use 'horizontal'"),
        (lambda: layers.RandomTranslation(0.1, 2), "width_factor=2"),
        (lambda: layers.RandomTranslation((0.2, 0.1), 0), "give the lower bound first"),
        (lambda: layers.RandomRotation(0.1, fill_mode="mirror"), "fill_mode='mirror': use"),
        (lambda: layers.RandomZoom(0.1, interpolation="bicubic"), "interpolation='bicubic': use"),
        (lambda: layers.RandomBrightness(0.1, value_range=255), "value_range=255: use"),
        (lambda: layers.RandomContrast(-0.1), "factor=-0.1"),
        (lambda: layers.RandomCrop(0, 3), "height=0"),
        (lambda: layers.Resizing(3, 3, antialias=True), "antialias=True is not supported"),
        (
            lambda: layers.Resizing(3, 3, pad_to_aspect_ratio=True),
            "pad_to_aspect_ratio=True is not",
        ),
        (lambda: layers.CenterCrop(3, 3, data_format="channels_first"), "channels are last"),
        (lambda: layers.Rescaling("big"), "scale='big'"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(SettingError, match=message):
        make()
