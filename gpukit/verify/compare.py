"""When a result counts as right: the bounds to which kernels are held.

Data of whole numbers, and primitives that only choose or copy, must match exactly. Else a result is
compared with the definition's in float64: float64 within 1e-10, float32 within roundings that grow
with the number of values added, 4·(length + 8); TF32, or one product left out, is far outside.

An implementation that rounds the factors of its products to fewer bits says so (its `precision`).
Each product is then off by up to two such roundoffs u of either sign, so that a sum is off by some
√length of them, and cut factors, as tensor cores take them, make a sum smaller by some u of itself:
6·u·(√(length + 8)·scale + |sum|) is allowed on top. One product left out, sums that are kept in
half precision, or the next worse factors, are still outside.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpukit.dispatch.precision import FULL, Precision

ROUNDOFF = 2.0**-24  # float32's
ELEMENTWISE = 32  # roundings for functions of the card's own, as exp


def problem(
    name: str,
    actual: Any,
    wanted: np.ndarray,
    exact: bool,
    length: int,
    scale: float,
    precision: Precision = FULL,
) -> str:
    """What is wrong with `actual`; empty if nothing is.

    `wanted` is the definition's result, of the same dtype where `exact`, else perhaps wider;
    `precision` that of the implementation.
    """
    if actual.shape != wanted.shape:
        return f"{name} has shape {actual.shape}, the definition's {wanted.shape}"
    if exact:
        wrong = ~equal(actual, wanted)
        return f"{name} {_worst(actual, wanted, wrong)}" if wrong.any() else ""
    if actual.dtype == np.float64:
        allowed, rounding = 1e-10, 0.0
    else:
        allowed = max(4 * (length + 8), ELEMENTWISE) * ROUNDOFF
        rounding = 6 * precision.roundoff
    with np.errstate(invalid="ignore"):
        difference = np.abs(actual - wanted)
        limit = allowed * (scale + np.abs(wanted))
        limit += rounding * (math.sqrt(length + 8) * scale + np.abs(wanted))
        wrong = ~(equal(actual, wanted) | (difference <= limit))
    if not wrong.any():
        return ""
    allowed += rounding * math.sqrt(length + 8)
    return f"{name} {_worst(actual, wanted, wrong)}, {allowed:.2g} allowed"


def equal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Where two arrays are equal; NaN equals NaN."""
    return (a == b) | ((a != a) & (b != b))


def first_at(where: np.ndarray) -> tuple[int, ...]:
    """The first place, row-major, at which a mask is true."""
    return tuple(int(i) for i in np.argwhere(where)[0])


def _worst(actual: np.ndarray, wanted: np.ndarray, wrong: np.ndarray) -> str:
    where = first_at(wrong)
    return (
        f"differs at {int(wrong.sum())} of {wrong.size} places, first at {where}: "
        f"{actual[where]!r}, by definition {wanted[where]!r}"
    )
