"""Finds pictures that cannot be read without decoding those that look whole."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path

from gpukit.core.files import reading, regular
from gpukit.data.folder import Items
from gpukit.data.images import FORMATS, check_size, opened
from gpukit.data.levels import Levels, levels_of
from gpukit.errors import DataError

_TAIL = 4096  # bytes in which a whole JPEG has its end marker
_SILENT = 10.0  # seconds between lines of progress


def unreadable(
    items: Items, levels: Levels | None = None, tell: Callable[[str], None] = lambda text: None
) -> dict[int, str]:
    """Why pictures of `items` cannot be read, by index.

    Headers, the checksums of a PNG and the end of a JPEG are looked at; only what looks odd there,
    and formats without such marks, are decoded. `tell` gets a line of progress now and then.
    """
    found: dict[int, str] = {}
    said = time.monotonic()
    for index in range(len(items)):
        try:
            if not _looks_whole(items.path(index), levels):
                opened(items.path(index), [], levels=levels)
        except DataError as error:
            found[index] = str(error)
        if time.monotonic() - said > _SILENT:
            said = time.monotonic()
            tell(f"checked {index + 1:,} of {len(items):,} images")
    return found


def _looks_whole(path: Path, levels: Levels | None) -> bool:
    from PIL import Image

    with reading(path), regular(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            picture = Image.open(file, formats=FORMATS)
        except Exception:  # decoding says what it is
            return False
        check_size(path, picture)
        levels_of(path, picture, levels)
        if picture.format == "PNG":
            try:
                picture.verify()
            except Exception:  # as it may be with what decodes all the same
                return False
            return True
        if picture.format == "JPEG":
            file.seek(0, 2)
            file.seek(max(file.tell() - _TAIL, 0))
            return b"\xff\xd9" in file.read()
    return False
