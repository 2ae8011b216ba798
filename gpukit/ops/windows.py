"""Checked windows, remembered: a training loop asks for the same few ones at every step."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar

from gpukit.core.settings import is_strict
from gpukit.primitives import geometry
from gpukit.primitives.windows import Conv, Window

Made = TypeVar("Made")


def _remembered(make: Callable[..., Made]) -> Callable[..., Made]:
    """`make`, called once for the same settings under the same strictness."""

    # typed: stride=True and stride=1 are equal as keys, but only one of them is a stride.
    @lru_cache(maxsize=1024, typed=True)
    def cached(strict: bool, *settings: Any) -> Made:
        return make(*settings)

    @wraps(make)
    def call(*settings: Any) -> Made:
        try:
            return cached(is_strict(), *settings)
        except TypeError:  # a setting written as a list cannot be a key
            return make(*settings)

    return call


@_remembered
def checked_conv(
    x: tuple[int, int, int],
    w: tuple[int, int, int, int],
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
) -> Conv:
    """The settings of a convolution of images x (H, W, C) with weights w (R, S, C/groups, K)."""
    window = geometry.window(x[:2], w[:2], stride=stride, padding=padding, dilation=dilation)
    return Conv(*window[1:], geometry.check_groups(x[2], w[3], groups))


@_remembered
def checked_window(image: tuple[int, int], size: Any, stride: Any, padding: Any) -> Window:
    """A window of pooling over an image (H, W)."""
    return geometry.pool_window(image, size, stride=stride, padding=padding)
