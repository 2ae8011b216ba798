"""Checked windows, remembered: a training loop asks for the same few ones at every step."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from gpukit.core.settings import is_strict
from gpukit.primitives import geometry


def cached_window(
    image: tuple[int, int], size: Any, *, stride: Any, padding: Any, dilation: Any = 1
) -> geometry.Window:
    """`geometry.window` under the context's strictness."""
    settings = (image, size, stride, padding, dilation, is_strict())
    try:
        return _window(*settings)
    except TypeError:  # a setting written as a list cannot be a key
        return _window.__wrapped__(*settings)


def cached_pool_window(
    image: tuple[int, int], size: Any, *, stride: Any, padding: Any
) -> geometry.Window:
    """`geometry.pool_window` under the context's strictness."""
    settings = (image, size, stride, padding, is_strict())
    try:
        return _pool_window(*settings)
    except TypeError:
        return _pool_window.__wrapped__(*settings)


# typed: stride=True and stride=1 are equal as keys, but only one of them is a stride.
@lru_cache(maxsize=1024, typed=True)
def _window(
    image: tuple[int, int], size: Any, stride: Any, padding: Any, dilation: Any, strict: bool
) -> geometry.Window:
    return geometry.window(
        image, size, stride=stride, padding=padding, dilation=dilation, strict=strict
    )


@lru_cache(maxsize=1024, typed=True)
def _pool_window(
    image: tuple[int, int], size: Any, stride: Any, padding: Any, strict: bool
) -> geometry.Window:
    return geometry.pool_window(image, size, stride=stride, padding=padding, strict=strict)
