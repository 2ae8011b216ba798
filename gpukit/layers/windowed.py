"""Output sizes of layers with windows; height or width of an image may be unknown."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from gpukit.core.settings import strict as strict_mode
from gpukit.layers.batch_shape import Shape
from gpukit.primitives import geometry
from gpukit.primitives.windows import Pair

_ANY = 1 << 20  # stands for an open length, so that settings are checked all the same


def strictness(strict: bool | None) -> AbstractContextManager[None]:
    """A block in which `gpukit.strict` is what a layer's `strict` says; None leaves it."""
    return nullcontext() if strict is None else strict_mode(strict)


def checked_padding(padding: Any) -> Any:
    """Padding in lower case or as ((top, bottom), (left, right)); SettingError otherwise."""
    pads = geometry.as_padding(padding, (1, 1), (1, 1), (1, 1))
    return padding.lower() if isinstance(padding, str) else pads


def window_outputs(
    shape: Shape, size: Pair, *, strict: bool | None, pool: bool = False, **settings: Any
) -> tuple[int | None, int | None]:
    """(H', W') for an input (N, H, W, C); None along an axis that is open. Raises ShapeError."""
    rows, columns = shape[1:3]
    image = (_ANY if rows is None else rows, _ANY if columns is None else columns)
    tiled = strict if None not in (rows, columns) else False
    make = geometry.pool_window if pool else geometry.window
    out = make(image, size, strict=tiled, **settings).output_shape(image)
    return None if rows is None else out[0], None if columns is None else out[1]
