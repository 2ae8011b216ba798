"""Brings pictures of more than 8 bits a channel to 8 bits, by a range that no pixel decides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpukit.core.config import show
from gpukit.errors import DataError, SettingError

if TYPE_CHECKING:
    from PIL.Image import Image

Levels = tuple[float, float]  # the values of black and of white

_BITS = 258  # TIFF's tag BitsPerSample


def checked(levels: Any) -> Levels | None:
    """`levels`, a pair or a text "low,high", as (low, high), or None; SettingError for others."""
    if levels is None:
        return None
    if isinstance(levels, str):
        levels = levels.split(",")
    try:
        low, high = (float(value) for value in levels)
    except (TypeError, ValueError):
        low = high = 0.0
    if not -np.inf < low < high < np.inf:
        raise SettingError(
            f"levels={show(levels)}: give the values of black and white, the lower first, as (0, 1)"
        )
    return low, high


def levels_of(path: str | Path, picture: Image, given: Levels | None) -> Levels | None:
    """What is black and white in a picture of more than 8 bits; None for one of 8.

    Unsigned whole numbers have the range of their bits unless it is `given`. Raises `DataError`
    for others (32 bits, signed, floating), of which it must be.
    """
    if picture.mode[0] not in "IF":
        return None
    if given is not None:
        return given
    bits = 16
    if picture.format == "TIFF":
        bits = int(picture.tag_v2.get(_BITS, (32,))[0])  # type: ignore[attr-defined]
    if picture.mode == "F" or bits > 16 or (picture.format == "TIFF" and picture.mode == "I"):
        kind = "floating" if picture.mode == "F" else "signed or of 32 bits"
        raise DataError(
            f"{path}: its values are {kind}, and no file says which are black and white; give "
            "--levels 0,1 (levels=(0, 1) in a program), or save it with 8 or 16 bits"
        )
    return 0.0, 2.0**bits - 1


def to_eight_bits(picture: Image, levels: Levels, notes: list[str]) -> Image:
    """Grey of 8 bits: (value - low)·255/(high - low), rounded, from 0 to 255; NaN is black.

    16 bits become value/257. A value that a PNG declares transparent becomes white.
    """
    from PIL import Image

    low, high = levels
    notes.append(f"brought its levels {low:g} to {high:g} to 0 to 255")
    values = np.array(picture, np.float64)
    clear = picture.info.get("transparency")
    holes = values == clear if isinstance(clear, int) else None
    values -= low
    values *= 255 / (high - low)
    np.clip(np.nan_to_num(values, copy=False), 0, 255, out=values)
    grey = np.rint(values, out=values).astype(np.uint8)
    if holes is not None and holes.any():
        grey[holes] = 255
        notes.append("laid on white where it is transparent")
    return Image.fromarray(grey)
