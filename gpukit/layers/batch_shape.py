"""Shapes with the batch first; None is a length that is not known yet."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpukit.core.config import show
from gpukit.errors import ShapeError

Shape = tuple[int | None, ...]
"""Lengths of the axes, batch first; None where any length may come."""


def batch_shape(shape: Any) -> Shape:
    """`shape` as a tuple with the batch first, whole numbers or None for any."""
    if not isinstance(shape, (tuple, list)) or not all(
        n is None or (isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= 0)
        for n in shape
    ):
        raise ShapeError(f"the shape {show(shape)}: use a tuple with the batch first, (None, 28)")
    return tuple(shape)


def show_shape(shape: Shape) -> str:
    """(None, 28, 28, 1) as (N, 28, 28, 1)."""
    if not shape:
        return "()"
    rest = ["?" if n is None else str(n) for n in shape[1:]]
    first = "N" if shape[0] is None else str(shape[0])
    return f"({', '.join([first, *rest])}{',' if len(shape) == 1 else ''})"


def product(lengths: Shape) -> int | None:
    """Product of the lengths; None where one is open."""
    known = [n for n in lengths if n is not None]
    return math.prod(known) if len(known) == len(lengths) else None
