"""Random operations, keyed by counters so that every backend draws the same numbers."""

from __future__ import annotations

from typing import Any

from gpukit.autograd import differentiable
from gpukit.backends import reference as p
from gpukit.errors import SettingError


@differentiable
def dropout(
    x: Any,
    *,
    rate: float,
    seed: int,
    layer: int = 0,
    step: int = 0,
    classic: bool = False,
    algo: str | None = None,
) -> Any:
    """x with each element set to 0 with probability `rate`, the others divided by 1 − rate.

    The mask is a function of (seed, layer, step, element) alone. `classic` leaves the survivors
    as they are: its test-time counterpart multiplies by 1 − rate. Srivastava et al., 2014.
    """
    if not 0 <= rate < 1:
        raise SettingError(f"dropout: rate={rate} must be at least 0 and below 1")
    settings: dict[str, Any] = {
        "rate": float(rate),
        "seed": seed,
        "layer": layer,
        "step": step,
        "scale": 1.0 if classic else 1.0 / (1.0 - rate),
        "algo": algo,
    }
    return p.dropout(x, **settings), (lambda gy: p.dropout(gy, **settings),)
