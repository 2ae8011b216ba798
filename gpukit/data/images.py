"""Reads a picture and converts it to look like those that a network was trained on."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpukit.core.files import reading, regular
from gpukit.data.levels import Levels, checked, levels_of, to_eight_bits
from gpukit.errors import DataError, SettingError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 100_000_000  # more than cameras make; beyond, a file is taken for a bomb
MAX_BYTES = 640 << 20  # while it is decoded
LARGE = 16_000_000  # pixels, beyond which a picture is reduced at once

# What Pillow decodes by itself: for EPS it would run Ghostscript on the file.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
# Bytes of a pixel in Pillow's memory where they are not 4, and what decoders need beside them.
_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2}
_DECODING = {"WEBP": 12, "TIFF": 8, "PPM": 4}
_STRIP = 4_000_000  # pixels that are converted at once
# Image.Transpose, by EXIF's orientation
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
_ORIENTATION = 0x0112  # the tag in EXIF; 2 to 8 are turned or mirrored
# Grey levels by which a border may vary and still be a background.
_PLAIN = 25
# Grey levels between background and object below which there is nothing to see.
_FAINT = 16
# Pillow's modes that it converts to RGB, or that have one channel.
_COLOURS = {
    "1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "I", "F",
}  # fmt: skip


def read_picture(
    path: str | Path,
    size: tuple[int, int] = (28, 28),
    channels: int = 1,
    *,
    margin: int = 2,
    levels: Levels | None = None,
) -> tuple[NDArray[np.uint8], list[str]]:
    """Read a picture for a network whose images are `size` = (H, W) with 1 or 3 channels.

    Returns uint8 (H, W, channels), and in words each thing that was done to the picture. It is
    turned upright as EXIF says; what is transparent becomes white; it is scaled, its shape kept,
    into the size, and centred on its background. More than 8 bits become 8: 16 by value/257, floats
    by `levels`, the values of black and white.

    Grey pictures are made light on dark as MNIST's and Fashion-MNIST's are: where the border is
    lighter than the centre they are inverted, and where the border is plain its level becomes
    black and the lightest level white, and what is empty around the object is cut down to `margin`
    pixels of `size` (Fashion-MNIST's objects leave 0 to 2, MNIST's digits 4). A picture that is
    light on black and has the size already comes back unchanged, with no notes.

    Raises `DataError` with the file's name for what is no picture, damaged, or beyond
    `MAX_PIXELS`.
    """
    if channels not in (1, 3) or min(size) < 1 or margin < 0:
        raise SettingError(
            f"pictures: {channels} channels, size {size}, margin {margin}: "
            "use 1 or 3 channels, a size of 1 or more, a margin of 0 or more"
        )
    notes: list[str] = []
    picture = on_white(opened(path, notes, levels=checked(levels)), notes)
    pixels = in_channels(picture, channels, notes)
    if channels == 1:
        pixels = _light_on_dark(pixels, size, margin, notes)
    return _fitted(pixels, size, notes), notes


def opened(
    path: str | Path, notes: list[str], shorter: int | None = None, levels: Levels | None = None
) -> Image:
    """The picture in a file, decoded, upright and of 8 bits; `DataError` as `read_picture`.

    With `shorter`, only the central square is needed, of which a side need have no more than
    `shorter` pixels: a JPEG is decoded at a half, a quarter or an eighth of its size if that leaves
    as many. Of a picture beyond `LARGE` pixels a fraction comes back, laid on white.
    """
    from PIL import Image, UnidentifiedImageError

    with reading(path), regular(path) as file, warnings.catch_warnings():
        # Pillow warns of odd tags, and above a size of its own; ours is checked below.
        warnings.simplefilter("ignore")
        try:
            picture = Image.open(file, formats=FORMATS)
        except UnidentifiedImageError as error:
            raise DataError(
                f"{path}: is not a picture of a known kind ({', '.join(FORMATS)})"
            ) from error
        except Image.DecompressionBombError as error:
            raise DataError(f"{path}: has too many pixels; make the picture smaller") from error
        with picture:
            check_size(path, picture)
            deep = levels_of(path, picture, levels)
            if getattr(picture, "is_animated", False):
                notes.append("took the first of several frames")
            if picture.format == "JPEG":
                width, height = picture.size
                least = max(min(width, height), 1)
                if shorter is not None:
                    picture.draft(None, (width * shorter // least, height * shorter // least))
                elif width * height > LARGE:
                    part = (LARGE / (width * height)) ** 0.5
                    picture.draft(None, (int(width * part), int(height * part)))
            return _upright(picture, notes, shorter is not None, deep)


def check_size(path: str | Path, picture: Image) -> None:
    """Refuse a picture that takes too much to be decoded, or has colours of an unknown kind."""
    width, height = picture.size
    if picture.mode.partition(";")[0] not in _COLOURS:
        raise DataError(f"{path}: has colours of the kind {picture.mode}; convert it to RGB")
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{path}: {width}×{height} pixels are more than {MAX_PIXELS}; make the picture smaller"
        )
    taken = _BYTES.get(picture.mode, 4) + _DECODING.get(picture.format or "", 0)
    if width * height * taken > MAX_BYTES:
        raise DataError(
            f"{path}: {width}×{height} pixels of {picture.format} take more than "
            f"{MAX_BYTES >> 20} MiB; make the picture smaller"
        )


def _upright(picture: Image, notes: list[str], central: bool, deep: Levels | None) -> Image:
    """The pixels of `picture`, decoded, and turned as its EXIF orientation says.

    `deep` is the range of one of more than 8 bits.
    """
    from PIL.Image import Transpose

    # Looked at twice: Pillow turns a TIFF as it decodes, and finds a PNG's EXIF behind its pixels.
    before = picture.getexif().get(_ORIENTATION, 1)
    picture.load()
    after = picture.getexif().get(_ORIENTATION, 1)
    if before in _TURNS or after in _TURNS:
        notes.append("turned upright as its EXIF orientation says")
    if picture.width * picture.height > LARGE:
        pixels = _reduced(picture, notes, central, deep)
    elif deep:
        pixels = to_eight_bits(picture, deep, notes)
    elif after in _TURNS or picture.format == "JPEG":
        pixels = picture
    else:  # others than a JPEG come back to their file for their next frame
        pixels = picture.copy()
    return pixels.transpose(Transpose(_TURNS[after])) if after in _TURNS else pixels


def _reduced(picture: Image, notes: list[str], central: bool, deep: Levels | None) -> Image:
    """`picture`, or its central square, on white, each k×k pixels averaged, so that `LARGE` remain.

    A strip is converted at a time: large pictures are never in memory twice.
    """
    from PIL import Image

    width, height = picture.size
    side = min(picture.size)
    left, top = ((width - side) // 2, (height - side) // 2) if central else (0, 0)
    if central:
        width = height = side
    k = math.ceil((width * height / LARGE) ** 0.5)
    columns, rows = max(width // k, 1), max(height // k, 1)
    at_once = max(_STRIP // (width * k), 1)
    said: list[str] = []
    result: Image.Image | None = None
    for first in range(0, rows, at_once):
        last = min(first + at_once, rows)
        box = (left, top + first * k, left + min(columns * k, width), top + last * k)
        strip = picture.crop(box)
        if deep:
            strip = to_eight_bits(strip, deep, said)
        strip = on_white(strip, said)
        strip = strip.convert("L" if strip.mode in ("L", "1") else "RGB").reduce(k)
        if result is None:
            result = Image.new(strip.mode, (columns, rows))
        result.paste(strip, (0, first))
    notes.extend(dict.fromkeys(said))
    assert result is not None
    return result


def on_white(picture: Image, notes: list[str]) -> Image:
    """The picture, what is transparent in it laid on white."""
    from PIL import Image

    if not (picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info):
        return picture
    coloured = picture.convert("RGBA")
    lowest, _ = coloured.getchannel("A").getextrema()
    if lowest == 255:
        return coloured.convert("RGB")
    notes.append("laid on white where it is transparent")
    return Image.alpha_composite(Image.new("RGBA", coloured.size, "white"), coloured).convert("RGB")


def in_channels(picture: Image, channels: int, notes: list[str]) -> NDArray[np.uint8]:
    """uint8 (H, W, channels)."""
    if channels == 3:
        if picture.mode in ("L", "1"):
            notes.append("made three equal channels of grey")
        return np.asarray(picture.convert("RGB"))
    colours = np.asarray(picture.convert("RGB"))
    if picture.mode not in ("L", "1") and (colours != colours[..., :1]).any():
        notes.append("converted to grey")
    return np.asarray(picture.convert("L"))[..., np.newaxis]


def _light_on_dark(
    pixels: NDArray[np.uint8], size: tuple[int, int], margin: int, notes: list[str]
) -> NDArray[np.uint8]:
    """Invert a light background, make a plain one black, and cut off empty margins."""
    border, centre = _border(pixels), _centre(pixels)
    # The median, because an object that touches the border does not make it the background.
    if np.median(border) > centre.mean():
        pixels = 255 - pixels
        border = 255 - border
        notes.append("inverted, because its background is light and the training images' is dark")
    background, lightest = float(np.median(border)), float(pixels.max())
    plain = border.std() < _PLAIN and lightest - background >= _FAINT
    if plain and background > 8:
        stretched = (pixels.astype(np.float32) - background) * (255 / (lightest - background))
        pixels = np.rint(np.clip(stretched, 0, 255)).astype(np.uint8)
        notes.append(f"darkened its background to black (level {background:.0f} of 255 to 0)")
    if plain and pixels.shape[:2] != size:
        pixels = _without_margins(pixels, margin / max(max(size) - 2 * margin, 1), notes)
    return pixels


def _without_margins(
    pixels: NDArray[np.uint8], margin: float, notes: list[str]
) -> NDArray[np.uint8]:
    """Cut to the rows and columns that hold something, and `margin` of their extent around, where
    that takes away a tenth or more of the longer side."""
    height, width = pixels.shape[:2]
    # A quarter of full white: noise of a photographed background stays below.
    rows = np.flatnonzero((pixels > 64).any(axis=(1, 2)))
    columns = np.flatnonzero((pixels > 64).any(axis=(0, 2)))
    if not rows.size:
        return pixels
    around = round(max(np.ptp(rows) + 1, np.ptp(columns) + 1) * margin)
    top, bottom = max(rows[0] - around, 0), min(rows[-1] + 1 + around, height)
    left, right = max(columns[0] - around, 0), min(columns[-1] + 1 + around, width)
    if max(bottom - top, right - left) > 0.9 * max(height, width):
        return pixels
    notes.append(f"cut its empty margins ({width}×{height} to {right - left}×{bottom - top})")
    return pixels[top:bottom, left:right]


def _fitted(
    pixels: NDArray[np.uint8], size: tuple[int, int], notes: list[str]
) -> NDArray[np.uint8]:
    """Scale into `size`, shape kept, and pad with the background."""
    from PIL import Image

    height, width, channels = pixels.shape
    if (height, width) == size:
        return np.array(pixels)
    scale = min(size[0] / height, size[1] / width)
    inner = (
        min(max(round(height * scale), 1), size[0]),
        min(max(round(width * scale), 1), size[1]),
    )
    picture = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    if inner != (height, width):
        notes.append(f"resized from {width}×{height} to {inner[1]}×{inner[0]}")
        picture = picture.resize((inner[1], inner[0]), Image.Resampling.BILINEAR)
    result = np.empty((*size, channels), np.uint8)
    result[:] = np.median(_border(pixels), axis=0)
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    result[top : top + inner[0], left : left + inner[1]] = np.asarray(picture).reshape(
        *inner, channels
    )
    if inner != size:
        notes.append(f"padded with its background to {size[1]}×{size[0]}")
    return result


def _border(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The pixels (n, C) of the outermost rows and columns, a twenty-fifth of the sides wide."""
    height, width, channels = pixels.shape
    rows, columns = max(height // 25, 1), max(width // 25, 1)
    parts = (pixels[:rows], pixels[-rows:], pixels[:, :columns], pixels[:, -columns:])
    return np.concatenate([part.reshape(-1, channels) for part in parts])


def _centre(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The middle half of rows and columns (all of a picture too small to have one)."""
    height, width = pixels.shape[:2]
    return pixels[height // 4 : height - height // 4, width // 4 : width - width // 4]
