"""Reads images at other places than those of their pixels, each image at its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukit import ops, primitives
from gpukit.device import Device

FILL_MODES = ("reflect", "wrap", "constant", "nearest")


def uniforms(key: dict[str, int], count: int, columns: int) -> NDArray[np.float64]:
    """(count, columns) numbers from 0 to below 1, those of each sample by its place in the batch.

    `key` is what `Layer.random_key` gives.
    """
    place: dict[str, Any] = dict(key)
    before = place.pop("sample", 0)
    shape = ((before + count) * columns,)
    words = primitives.philox(np.empty(1, np.float32), shape=shape, **place)
    return (words[before * columns :] / 2.0**32).reshape(count, columns)


def filled(at: NDArray[np.int64], size: int, fill_mode: str) -> NDArray[np.int64]:
    """Places along an axis of `size` pixels, those beyond its ends brought back by `fill_mode`."""
    if fill_mode == "wrap":
        return at % size
    if fill_mode == "reflect":  # d c b a | a b c d | d c b a
        at = at % (2 * size)
        return np.minimum(at, 2 * size - 1 - at)
    return np.clip(at, 0, size - 1)


def sample(
    x: Any,
    rows: NDArray[np.float64],
    columns: NDArray[np.float64],
    *,
    device: Device,
    interpolation: str = "nearest",
    fill_mode: str = "nearest",
    fill_value: float = 0.0,
) -> Any:
    """x (N, H, W, C) at `rows` and `columns`, together of the shape (N, P, Q): (N, P, Q, C).

    Bilinear values are sums over the four pixels around a place, nearest ones those of the pixel
    that the place is in; "constant" takes pixels outside as `fill_value`.
    """
    count, height, width, channels = x.shape
    flat = ops.reshape(x, shape=(count * height * width, channels))
    number = np.arange(count).reshape(-1, 1, 1)
    if interpolation == "nearest":
        rows, columns = np.floor(rows + 0.5), np.floor(columns + 0.5)
    total: Any = None
    for a in (0, 1):
        row, row_share = _tap(rows, a)
        for b in (0, 1):
            column, column_share = _tap(columns, b)
            share = row_share * column_share
            if not share.any():
                continue
            r, c = filled(row, height, fill_mode), filled(column, width, fill_mode)
            found = ops.index(flat, key=(number * height + r) * width + c)
            inside = share
            if fill_mode == "constant":
                inside = share * ((r == row) & (c == column))
            if (inside != 1).any():
                found = ops.multiply(found, _placed(inside, x, device))
                outside = (share - inside) * fill_value
                if outside.any():
                    found = ops.add(found, _placed(outside, x, device))
            total = found if total is None else ops.add(total, found)
    return total


def _tap(places: NDArray[np.float64], side: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The pixels before (side 0) or after (1) `places`, and their shares in the value there."""
    low = np.floor(places)
    after = places - low
    return low.astype(np.int64) + side, after if side else 1 - after


def _placed(values: NDArray[np.float64], x: Any, device: Device) -> Any:
    """`values` (N, P or 1, Q or 1) beside the channels of x, on its device."""
    return device.asarray(values[..., np.newaxis].astype(x.dtype))
