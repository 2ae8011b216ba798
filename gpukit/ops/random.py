"""Random operations, keyed by counters so that every backend draws the same numbers."""

from __future__ import annotations

from typing import Any

from gpukit import primitives as p
from gpukit.autograd import differentiable
from gpukit.core.config import show
from gpukit.errors import SettingError

__all__ = ["dropout"]


@differentiable
def dropout(
    x: Any,
    *,
    rate: float,
    seed: int,
    layer: int = 0,
    step: int = 0,
    sample: int = 0,
    classic: bool = False,
    algo: str | None = None,
) -> Any:
    """x with each element set to 0 with probability `rate`, the others divided by 1 − rate.

    The mask is a function of (seed, layer, step, element) alone. Where x (N, …) is a part of a
    batch, `sample` is the place of its first sample in it: its mask is cut from that of the whole.
    `classic` leaves the survivors as they are: its test-time counterpart multiplies by 1 − rate.
    Srivastava et al., 2014.
    """
    if not 0 <= rate < 1:
        raise SettingError(f"dropout: rate={rate} must be at least 0 and below 1")
    if not (
        0 <= seed < 1 << 64
        and 0 <= layer < 1 << 32
        and 0 <= step < 1 << 32
        and 0 <= sample < 1 << 31
    ):
        raise SettingError(
            f"dropout: seed={show(seed)}, layer={show(layer)}, step={show(step)}, "
            f"sample={show(sample)}: use 0 or more, a seed below 2⁶⁴, a layer and step below 2³²"
        )
    key: dict[str, Any] = {"seed": seed, "layer": layer, "step": step}
    scale = 1.0 if classic else 1.0 / (1.0 - rate)
    if sample:
        mask = _mask_of_part(x, sample, round(float(rate) * 2**32), scale, key)
        return p.multiply(x, mask), (lambda gy: p.multiply(gy, mask),)
    settings: dict[str, Any] = {"rate": float(rate), "scale": scale, "algo": algo, **key}
    return p.dropout(x, **settings), (lambda gy: p.dropout(gy, **settings),)


def _mask_of_part(x: Any, sample: int, threshold: int, scale: float, key: dict[str, Any]) -> Any:
    """0 or `scale` for each element of x, whose first sample has the place `sample` in its batch.

    The words of the samples before it are made, too, and dropped.
    """
    shape = (sample + x.shape[0], *x.shape[1:])
    words = p.philox(x, shape=shape, **key)[sample:]
    return (words >= threshold).astype(x.dtype) * x.dtype.type(scale)
