"""Pictures of more than 8 bits: their brightness is that of the file, whatever else it holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gpukit import layers, optimizers
from gpukit.data import ImageFeed, images, read_picture, scan
from gpukit.data.decode import read_crops
from gpukit.errors import DataError, SettingError
from gpukit.models import Sequential

RNG = np.random.default_rng(3)


def saved(path: Path, values: np.ndarray) -> Path:
    """A file of `values`, of a kind that its suffix and their type say."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = values.shape
    if path.suffix == ".pgm":
        path.write_bytes(b"P5 %d %d 65535\n" % (width, height) + values.astype(">u2").tobytes())
    else:
        Image.fromarray(values).save(path)
    return path


def crop(path: Path, side: int, levels: tuple[float, float] | None = None) -> np.ndarray:
    """The whole of a square picture (side, side), as feeds read it."""
    out = np.empty((1, side, side, 3), np.uint8)
    read_crops(path, side, [(0, 0, False)], out, levels)
    assert (out == out[..., :1]).all()
    return out[0, ..., 0]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_sixteen_bits_are_divided_by_257(tmp_path, suffix):
    values = RNG.integers(0, 65536, (24, 24)).astype(np.uint16)
    values[0, :4] = 0, 128, 129, 65535  # 128/257 is below a half
    expected = np.array([[round(int(v) / 257) for v in row] for row in values])
    path = saved(tmp_path / f"a{suffix}", values)
    np.testing.assert_array_equal(crop(path, 24), expected)
    pixels, notes = read_picture(path, (24, 24), 3)
    np.testing.assert_array_equal(pixels[..., 0], expected)
    assert "brought its levels 0 to 65535 to 0 to 255" in notes


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_other_values_need_a_stated_range(tmp_path, kind):
    values = RNG.uniform(-3, 7, (9, 9)).astype(kind)
    path = saved(tmp_path / "a.tif", values)
    message = r"a\.tif: its values are (floating|signed).*--levels 0,1 \(levels=\(0, 1\)"
    with pytest.raises(DataError, match=message):
        read_picture(path)
    with pytest.raises(DataError, match=message):
        crop(path, 9)
    # Values outside the range are black and white.
    expected = np.rint(np.clip((values.astype(np.float64) + 1) / 5, 0, 1) * 255)
    np.testing.assert_array_equal(crop(path, 9, (-1, 4)), expected)


def test_values_that_are_not_numbers_are_black(tmp_path):
    values = np.array([[np.nan, np.inf], [-np.inf, 0.5]], np.float32)
    path = saved(tmp_path / "a.tif", values)
    np.testing.assert_array_equal(crop(path, 2, (0, 1)), [[0, 255], [0, 128]])


def test_a_stated_range_is_that_of_sixteen_bits_too(tmp_path):
    values = RNG.integers(0, 4096, (8, 8)).astype(np.uint16)
    path = saved(tmp_path / "a.png", values)
    np.testing.assert_array_equal(crop(path, 8, (0, 4095)), np.rint(values / 4095 * 255))


def test_what_a_png_declares_transparent_is_white(tmp_path):
    values = np.full((4, 4), 30_000, np.uint16)
    values[0] = 77
    Image.fromarray(values).save(tmp_path / "a.png", transparency=77)
    assert crop(tmp_path / "a.png", 4).tolist() == [[255] * 4] + [[117] * 4] * 3


def test_a_large_picture_is_brought_to_the_same_levels(tmp_path, monkeypatch):
    values = np.kron(RNG.integers(0, 65536, (4, 4)), np.ones((12, 12))).astype(np.uint16)
    path = saved(tmp_path / "a.png", values)
    whole = crop(path, 4)
    monkeypatch.setattr(images, "LARGE", 600)
    np.testing.assert_array_equal(crop(path, 4), whole)


@pytest.mark.parametrize("levels", [(1, 0), (0, 0), (0, np.inf), 5, "0;1", (0, 1, 2)])
def test_a_range_that_is_none(tmp_path, levels):
    path = saved(tmp_path / "a.png", np.zeros((4, 4), np.uint16))
    with pytest.raises(SettingError, match="values of black and white"):
        read_picture(path, levels=levels)


def test_classes_that_differ_in_brightness_alone_are_told_apart(tmp_path):
    """The same accuracy from files of 8 and of 16 bits, and of floats with their range."""
    made = {"8": ".png", "16": ".png", "f": ".tif"}
    for name, low in (("dark", 20), ("light", 120)):
        for number in range(30):
            grey = (low + RNG.integers(0, 60, (12, 12))).astype(np.uint8)
            kinds = {"8": grey, "16": grey * np.uint16(257), "f": (grey / 255).astype(np.float32)}
            for kind, suffix in made.items():
                saved(tmp_path / kind / name / f"{number}{suffix}", kinds[kind])
    found = []
    for kind in made:
        folder = scan(tmp_path / kind, split=0.3)
        how = {"size": 10, "resize": 12, "levels": (0, 1) if kind == "f" else None}
        model = Sequential([layers.Flatten(), layers.Dense(2, activation="softmax")], seed=1)
        model.compile(optimizers.Adam(0.02), "sparse_categorical_crossentropy", ["accuracy"])
        model.fit(ImageFeed(folder.train, 8, shuffle=True, **how), epochs=25, verbose=0)
        found.append(model.evaluate(ImageFeed(folder.val, 8, **how)))
    assert found[0][1] > 0.9 and found[1] == found[0] == found[2]


def test_workers_know_the_range(tmp_path):
    for name in ("a", "b"):
        for number in range(3):
            saved(tmp_path / name / f"{number}.tif", RNG.random((8, 8)).astype(np.float32))
    items = scan(tmp_path).train
    with ImageFeed(items, 4, 8, workers=1, levels=(0, 1)) as ahead:
        here = ImageFeed(items, 4, 8, levels=(0, 1))
        for one, two in zip(ahead.epoch(), here.epoch(), strict=True):
            np.testing.assert_array_equal(one.x, two.x)
    assert here.config()["levels"] == [0, 1] and "levels" not in ImageFeed(items).config()
