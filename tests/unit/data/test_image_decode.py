"""A file becomes the crops it should, whatever kind it is; a bad one is named."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from photos import damage, photo
from PIL import Image

from gpukit.data.augment import Augment, Crop
from gpukit.data.decode import Bad, Decoder, read_crops
from gpukit.errors import DataError


def crops(path, square, *where, size=None):
    where = where or (Crop(0, 0, False),)
    out = np.full((len(where), size or square, size or square, 3), 99, np.uint8)
    read_crops(path, square, [Crop(*w) for w in where], out)
    return out


def triangle(pixels: np.ndarray, size: int, side: int) -> np.ndarray:
    """Naive float64 resize of the middle `side` of the first axis to `size`: each output pixel is
    the mean of those below a triangle as wide as two output pixels (two of the input's where that
    is more), which may reach beyond the middle."""
    scale, begin = side / size, (len(pixels) - side) / 2
    reach = max(scale, 1.0)
    rows = []
    for i in range(size):
        centre = begin + (i + 0.5) * scale
        weights = np.maximum(1 - np.abs(np.arange(len(pixels)) + 0.5 - centre) / reach, 0)
        rows.append(np.tensordot(weights / weights.sum(), pixels, 1))
    return np.array(rows)


def resized(pixels: np.ndarray, square: int) -> np.ndarray:
    """The largest central square at square×square, in float64."""
    side = min(pixels.shape[:2])
    rows = triangle(pixels.astype(np.float64), square, side)
    return triangle(rows.swapaxes(0, 1), square, side).swapaxes(0, 1)


@pytest.mark.parametrize("shape", [(40, 40), (60, 40), (40, 90), (300, 200)])
@pytest.mark.parametrize("square", [40, 32, 64])
def test_geometry(tmp_path, shape, square):
    pixels = photo(*shape)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    got = crops(tmp_path / "p.png", square)[0].astype(int)
    expected = resized(pixels, square)
    # Pillow rounds to whole levels after each of the two axes.
    assert np.abs(got - expected).max() < 1.5
    if min(shape) == square:
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("square", [32, 36, 256])
def test_a_crop_is_a_part_of_the_resized_square(tmp_path, square):
    Image.fromarray(photo(375, 500)).save(tmp_path / "p.png")
    whole = crops(tmp_path / "p.png", square)[0].astype(int)
    size = square - 7
    for top, left in ((0, 0), (7, 7), (3, 5)):
        one = crops(tmp_path / "p.png", square, (top, left, False), size=size)[0].astype(int)
        part = whole[top : top + size, left : left + size]
        assert np.abs(one - part).max() <= 1
        flipped = crops(tmp_path / "p.png", square, (top, left, True), size=size)[0]
        np.testing.assert_array_equal(flipped, one[:, ::-1])
    views = Augment("ten", flip=False).draw(0, 0, 0, square, size)[0]
    ten = crops(tmp_path / "p.png", square, *views, size=size)
    for view, (top, left, flip) in zip(ten, views, strict=True):
        part = whole[top : top + size, left : left + size]
        np.testing.assert_array_equal(view, part[:, ::-1] if flip else part)


def test_large_jpegs_are_decoded_smaller_but_never_too_small(tmp_path, monkeypatch):
    sizes = []
    real = Image.Image.resize

    def resize(self, *args, **kwargs):
        sizes.append(self.size)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", resize)
    for width, height, expected in (
        (256, 192, (128, 96)),
        (192, 129, (96, 65)),
        (190, 127, (190, 127)),
        (300, 256, (75, 64)),
        (50, 25, (50, 25)),
    ):
        Image.fromarray(photo(width, height)).save(tmp_path / "p.jpg", quality=90)
        got = crops(tmp_path / "p.jpg", 64)[0]
        assert sizes.pop() == expected
        with Image.open(tmp_path / "p.jpg") as picture:
            whole = resized(np.asarray(picture), 64)
        assert np.abs(got - whole).mean() < 2


@pytest.fixture
def pixels():
    return photo(48, 40)


def centre(pixels):
    return pixels[:, 4:44]


def test_kinds_of_pictures(tmp_path, pixels):
    picture = Image.fromarray(pixels)
    for file in ("rgb.png", "rgb.bmp", "rgb.tif", "rgb.ppm"):
        picture.save(tmp_path / file)
        np.testing.assert_array_equal(crops(tmp_path / file, 40)[0], centre(pixels))
    grey = picture.convert("L")
    for file in ("grey.png", "grey.jpg"):
        grey.save(tmp_path / file, quality=100)
        got = crops(tmp_path / file, 40)[0].astype(int)
        assert np.abs(got - centre(np.asarray(grey))[..., None]).max() <= 4
    cmyk = tmp_path / "cmyk.jpg"
    picture.convert("CMYK").save(cmyk, quality=100)
    got = crops(cmyk, 40)[0].astype(int)
    assert np.abs(got - centre(pixels)).mean() < 4
    palette = picture.quantize(64)
    palette.save(tmp_path / "palette.png")
    palette.save(tmp_path / "palette.gif")
    expected = centre(np.asarray(palette.convert("RGB")))
    for file in ("palette.png", "palette.gif"):
        np.testing.assert_array_equal(crops(tmp_path / file, 40)[0], expected)


def test_alpha_is_laid_on_white(tmp_path, pixels):
    alpha = np.full(pixels.shape[:2], 255, np.uint8)
    alpha[:20], alpha[20:30] = 0, 128
    Image.fromarray(np.dstack([pixels, alpha])).save(tmp_path / "alpha.png")
    got = crops(tmp_path / "alpha.png", 40)[0]
    assert (got[:20] == 255).all()
    np.testing.assert_array_equal(got[30:], centre(pixels)[30:])
    half = centre(pixels)[20:30] * (128 / 255) + 255 * (127 / 255)
    assert np.abs(got[20:30] - half).max() <= 1


def test_sixteen_bits_become_eight(tmp_path):
    levels = (np.arange(40 * 40).reshape(40, 40) * 40).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    got = crops(tmp_path / "deep.png", 40)[0]
    assert got.min() == 0 and got.max() == round(1599 * 40 / 257)
    np.testing.assert_array_equal(got[..., 0], np.rint(levels / 257))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("large", [False, True])
def test_exif_turns_pictures_upright(tmp_path, orientation, large):
    pixels = photo(330, 270) if large else photo(48, 40)
    turned = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.swapaxes(0, 1),
        6: np.rot90(pixels),
        7: pixels[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(pixels, 3),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(turned)).save(tmp_path / "p.jpg", quality=97, exif=exif)
    Image.fromarray(pixels).save(tmp_path / "upright.jpg", quality=97)
    got, upright = (crops(tmp_path / f, 40)[0].astype(int) for f in ("p.jpg", "upright.jpg"))
    assert np.abs(got - upright).mean() < 8 < np.abs(got[::-1] - upright).mean()


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def bad_files(folder):
    """{name: what the error says}, of files in `folder`."""
    Image.fromarray(photo(200, 100)).save(folder / "cut.jpg")
    damage(folder / "cut.jpg")
    (folder / "zero.jpg").touch()
    (folder / "text.jpg").write_text("It is a list of groceries, not a picture.\n" * 20)
    (folder / "bomb.png").write_bytes(png_header(60_000, 60_000))
    (folder / "short.png").write_bytes(png_header(40, 40))
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "folder.jpg").mkdir()
    return {
        "cut.jpg": "truncated",
        "zero.jpg": "not a picture",
        "text.jpg": "not a picture",
        "bomb.png": "pixels",
        "short.png": "damaged or truncated",
        "gone.jpg": "no such file",
        "folder.jpg": "is a folder",
    }


def test_bad_files_are_named(tmp_path):
    for name, reason in bad_files(tmp_path).items():
        with pytest.raises(DataError) as caught:
            crops(tmp_path / name, 40)
        text = str(caught.value)
        assert text.startswith(f"{tmp_path / name}: ") and reason in text and "\n" not in text


def decoder(folder, names, labels, skip):
    return Decoder(
        lambda index: folder / names[index],
        np.array(labels),
        size=40,
        square=40,
        seed=0,
        augment=Augment("centre", False),
        skip=skip,
    )


def test_bad_files_raise_or_are_replaced(tmp_path):
    bad = list(bad_files(tmp_path))
    good = [f"good{i}.png" for i in range(3)]
    images = [photo(40, 40, seed=i) for i in range(3)]
    for name, pixels in zip(good, images, strict=True):
        Image.fromarray(pixels).save(tmp_path / name)
    names = [good[0], *bad, good[1], good[2]]
    labels = [0] * (len(bad) + 2) + [1]
    x, shift = np.zeros((3, 40, 40, 3), np.uint8), np.ones((3, 3), np.float32)
    strict = decoder(tmp_path, names, labels, skip=False)
    with pytest.raises(DataError, match=rf"{bad[0]}.*--bad-images skip"):
        strict.fill(0, [0, 1, 9], x, shift)
    lenient = decoder(tmp_path, names, labels, skip=True)
    begun = []
    found = lenient.fill(0, [9, 7, 0], x, shift, begun.append)
    assert found == [Bad(7, found[0].reason, 8)] and bad[6] in found[0].reason
    assert begun == [9, 7, 8, 0] and not shift.any()
    for row, pixels in zip(x, (images[2], images[1], images[0]), strict=True):
        np.testing.assert_array_equal(row, pixels)
    # The one after the last of a class is its first.
    wrapped = decoder(tmp_path, [good[0], good[1], bad[0]], [0, 0, 0], skip=True)
    assert wrapped.fill(5, [2], x[:1], shift[:1])[0].instead == 0


def test_a_class_of_bad_files_alone(tmp_path):
    names = list(bad_files(tmp_path))
    x, shift = np.zeros((1, 40, 40, 3), np.uint8), np.ones((1, 3), np.float32)
    with pytest.raises(DataError, match=r"none of its 7 images can be read"):
        decoder(tmp_path, names, [0] * 7, skip=True).fill(0, [3], x, shift)
