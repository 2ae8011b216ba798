"""Launchers of kernels/sgd.cu: steps over a flat buffer, in place."""

from __future__ import annotations

from typing import Any

from gpukit.backends import reference as p
from gpukit.backends.cuda.activation import pack_grid
from gpukit.backends.cuda.common import BLOCK, contiguous, is_float
from gpukit.backends.kernel import Kernel

Array = Any

_plain = Kernel("sgd.cu", "sgd_plain")
_momentum = Kernel("sgd.cu", "sgd_momentum")


def _fits(w: Array, v: Array | None, g: Array, **_: Any) -> bool:
    in_place = w.flags.c_contiguous and (v is None or v.flags.c_contiguous)
    return bool(is_float(w, v, g) and in_place)


@p.sgd_update.on("cuda", name="cuda", supports=_fits)
def _(
    w: Array,
    v: Array | None,
    g: Array,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    nesterov: bool,
) -> None:
    if not w.size:
        return
    rates = (float(lr), float(momentum), float(weight_decay))
    g = contiguous(g)
    if v is None:
        _plain.launch(pack_grid(w), BLOCK, w, g, w.size, rates[0], rates[2], T=w.dtype)
        return
    _momentum.launch(
        pack_grid(w), BLOCK, w, v, g, w.size, *rates, T=w.dtype, NESTEROV=bool(nesterov)
    )
