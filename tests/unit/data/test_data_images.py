"""Pictures become like the training images, and the notes say how."""

from __future__ import annotations

import io
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from gpukit.data import images, load, read_picture
from gpukit.data.decode import read_crops
from gpukit.errors import DataError, SettingError


def save(path: Path, array: np.ndarray, **settings) -> Path:
    Image.fromarray(array).save(path, **settings)
    return path


def test_training_like_pictures_are_unchanged(tmp_path: Path) -> None:
    for index, image in enumerate(load(limit=200).test_images):
        path = save(tmp_path / f"{index}.png", image[..., 0])
        pixels, notes = read_picture(path)
        np.testing.assert_array_equal(pixels, image)
        assert notes == []


def drawing(size: tuple[int, int], box: tuple[int, int, int, int], paper="white", ink="black"):
    picture = Image.new("RGB", size, paper)
    ImageDraw.Draw(picture).rectangle(box, fill=ink)
    return picture


def test_dark_on_light_is_inverted_cut_and_fitted(tmp_path: Path) -> None:
    path = tmp_path / "drawing.jpg"
    drawing((640, 480), (300, 100, 400, 299), "#e0e0d0", "#202020").save(path)
    pixels, notes = read_picture(path)
    text = "; ".join(notes)
    for word in ("converted to grey", "inverted", "background", "margins", "resized", "padded"):
        assert word in text
    assert pixels.shape == (28, 28, 1) and pixels.dtype == np.uint8
    # 24 rows of the object, 2 empty ones on each side; the shape of 100×200 is kept.
    assert pixels[1].max() < 40 and pixels[26].max() < 40 and pixels[4:24, 14].min() > 230
    assert abs(int((pixels[14] > 128).sum()) - 12) <= 1
    wide, _ = read_picture(path, margin=4)
    assert 19 <= (wide[:, 14] > 128).sum() <= 21


def test_light_on_dark_is_not_inverted(tmp_path: Path) -> None:
    path = tmp_path / "light.png"
    drawing((56, 56), (10, 2, 45, 53), "black", "white").save(path)
    pixels, notes = read_picture(path)
    assert notes == ["resized from 56×56 to 28×28"]
    assert pixels[14, 14] == 255 and pixels[0, 0] == 0


def test_colour_networks_get_colour(tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    drawing((64, 32), (20, 10, 40, 20), "#ff8000", "#0000ff").save(path)
    pixels, notes = read_picture(path, (32, 32), 3)
    assert pixels.shape == (32, 32, 3)
    assert notes == ["resized from 64×32 to 32×16", "padded with its background to 32×32"]
    np.testing.assert_array_equal(pixels[0, 0], (255, 128, 0))
    grey = save(tmp_path / "grey.png", np.full((32, 32), 9, np.uint8))
    pixels, notes = read_picture(grey, (32, 32), 3)
    assert (pixels == 9).all() and notes == ["made three equal channels of grey"]


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff"])
def test_exif_orientation(tmp_path: Path, suffix: str) -> None:
    array = np.zeros((28, 28), np.uint8)
    array[8:20, 4:10] = 255  # left of the middle
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise: left becomes top
    path = save(tmp_path / f"turned.{suffix}", array, exif=exif)
    pixels, notes = read_picture(path)
    assert pixels[4:10, 8:20].mean() > 200 and pixels[10:].max() < 60
    assert notes[0].startswith("turned upright")


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    array = np.zeros((28, 28, 4), np.uint8)
    array[8:20, 8:20, 3] = 255  # black, opaque in the middle
    pixels, notes = read_picture(save(tmp_path / "sticker.png", array))
    assert notes[0].startswith("laid on white") and "inverted" in notes[1]
    assert pixels[14, 14] == 255 and pixels[0, 0] == 0
    array[..., 3] = 255
    array[8:20, 8:20, :3] = 200
    assert read_picture(save(tmp_path / "opaque.png", array))[1] == []


def test_other_modes(tmp_path: Path) -> None:
    deep = np.zeros((28, 28), np.uint16)
    deep[10:20, 10:20] = 40_000
    pixels, notes = read_picture(save(tmp_path / "deep.png", deep))
    assert pixels.max() == 156 and "levels 0 to 65535" in notes[0]
    picture = Image.fromarray((deep > 0).astype(np.uint8) * 255)
    for mode, name in (("1", "bits.png"), ("P", "palette.gif"), ("CMYK", "print.jpg")):
        picture.convert(mode).save(tmp_path / name)
        pixels, _ = read_picture(tmp_path / name)
        assert pixels[15, 15] > 240 and pixels[2, 2] < 15, mode


def test_the_first_of_several_frames(tmp_path: Path) -> None:
    frames = [Image.new("L", (28, 28), level) for level in (0, 255)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    pixels, notes = read_picture(tmp_path / "film.gif")
    assert pixels.max() == 0 and notes == ["took the first of several frames"]


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 3), (28, 27)])
@pytest.mark.parametrize("channels", [1, 3])
def test_odd_sizes(tmp_path: Path, shape: tuple[int, int], channels: int) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    pixels, _ = read_picture(save(tmp_path / "odd.png", array), (28, 20), channels)
    assert pixels.shape == (28, 20, channels)


def whole(kind: str) -> bytes:
    rng = np.random.default_rng(2)
    stream = io.BytesIO()
    array = rng.integers(0, 256, (64, 48, 3), dtype=np.uint8)
    Image.fromarray(array).save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"])
def test_damaged_files(tmp_path: Path, kind: str) -> None:
    content = whole(kind)
    path = tmp_path / "picture"
    rng = np.random.default_rng(4)
    refused = 0
    for attempt in range(40):
        damaged = bytearray(content)
        if attempt % 2:
            del damaged[rng.integers(0, len(damaged)) :]
        else:
            for position in rng.integers(0, min(len(damaged), 300), 8):
                damaged[position] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            read_picture(path)
        except DataError as error:
            refused += 1
            assert str(path) in str(error) and "\n" not in str(error)
    assert refused >= 10


def test_what_is_no_picture(tmp_path: Path) -> None:
    for name, content in (
        ("text.jpg", b"hello"),
        ("empty.png", b""),
        ("program.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name}: is not a picture"):
            read_picture(tmp_path / name)
    with pytest.raises(DataError, match="no such file"):
        read_picture(tmp_path / "absent.png")
    with pytest.raises(DataError, match="is a folder"):
        read_picture(tmp_path)
    with pytest.raises(SettingError, match="2 channels"):
        read_picture(tmp_path, channels=2)


def chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")


@pytest.mark.parametrize("side", [11_000, 40_000, 2**31 - 1])
def test_decompression_bombs(tmp_path: Path, side: int) -> None:
    size = side.to_bytes(4, "big") * 2
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size + bytes((8, 0, 0, 0, 0)))
        + chunk(b"IDAT", zlib.compress(bytes(10_000)))
        + chunk(b"IEND", b"")
    )
    with pytest.raises(DataError, match=r"bomb\.png.*(pixels|cannot be read)"):
        read_picture(path)
    assert images.MAX_PIXELS < 11_000**2


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16", "F", "1"])
def test_a_picture_too_large_to_be_kept_whole(tmp_path: Path, monkeypatch, mode: str) -> None:
    rng = np.random.default_rng(0)
    levels = np.kron(rng.integers(0, 256, (7, 9)), np.ones((10, 12))).astype(np.uint8)
    if mode in ("I;16", "F"):
        picture = Image.fromarray(levels.astype({"I;16": "<u2", "F": "<f4"}[mode]) * 3)
    else:
        picture = Image.fromarray(levels).convert("RGB").convert(mode)
    if mode == "RGBA":
        picture.putalpha(Image.fromarray(levels))
    path = tmp_path / "large.tif"
    picture.save(path)
    levels = (0, 900) if mode in ("I;16", "F") else None
    expected, notes = read_picture(path, (14, 18), 3, levels=levels)
    crop = np.empty((2, 1, 16, 16, 3), np.uint8)
    read_crops(path, 16, [(0, 0, True)], crop[0], levels)
    for pixels in (1500, 2000):  # averages of 3×3 and of 2×2, in strips of some rows
        monkeypatch.setattr(images, "LARGE", pixels)
        monkeypatch.setattr(images, "_STRIP", 1000)
        found, same = read_picture(path, (14, 18), 3, levels=levels)
        rough = [n for n in same if "resized" not in n and "levels" not in n]
        assert rough == [n for n in notes if "resized" not in n and "levels" not in n]
        difference = np.abs(found.astype(int) - expected)
        assert difference.mean() < 25 and difference.shape == (14, 18, 3)
        read_crops(path, 16, [(0, 0, True)], crop[1], levels)
        assert np.abs(crop[0].astype(int) - crop[1]).mean() < 25


def test_what_has_no_end_is_no_picture(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match=r"pipe\.png: is a pipe, no regular file"):
        read_picture(tmp_path / "pipe.png")
    with pytest.raises(DataError, match="is a device"):
        read_picture("/dev/zero")


def test_pictures_that_take_too_much_to_decode(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", 100 * 100 * 11)
    for name in ("a.webp", "a.png"):
        Image.new("RGB", (100, 100)).save(tmp_path / name)
    assert read_picture(tmp_path / "a.png")[0].shape == (28, 28, 1)
    with pytest.raises(DataError, match=r"a\.webp: 100×100 pixels of WEBP take more than"):
        read_picture(tmp_path / "a.webp")
