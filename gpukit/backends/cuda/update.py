"""Launchers of kernels/update.cu and update.cu: steps over a flat buffer, in place."""

from __future__ import annotations

import math
from typing import Any

from gpukit import primitives as p
from gpukit.backends.cuda.activation.cuda_c import pack_grid
from gpukit.backends.cuda.runtime.common import BLOCK, contiguous, is_float
from gpukit.launch.kernel import Kernel

Array = Any

_plain = Kernel("update.cu", "sgd_plain")
_momentum = Kernel("update.cu", "sgd_momentum")
_adam = Kernel("update.cu", "adam")
_rmsprop_plain = Kernel("update.cu", "rmsprop_plain")
_rmsprop_momentum = Kernel("update.cu", "rmsprop_momentum")
_adagrad = Kernel("update.cu", "adagrad")


def _fits(*arrays: Array | None, **_: Any) -> bool:
    """Whether all but the last, the gradient, can be written where they lie."""
    in_place = all(a is None or a.flags.c_contiguous for a in arrays[:-1])
    return bool(is_float(*arrays) and in_place)


@p.sgd_update.on("cuda", name="cuda", supports=_fits, kernels=(_plain, _momentum))
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


@p.adam_update.on("cuda", name="cuda", supports=_fits, kernels=(_adam,))
def _(
    w: Array,
    m: Array,
    v: Array,
    g: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    step: int,
    weight_decay: float,
) -> None:
    if not w.size:
        return
    beta1, beta2 = float(beta1), float(beta2)
    rate, root = float(lr) / (1 - beta1**step), 1 / math.sqrt(1 - beta2**step)
    _adam.launch(
        pack_grid(w), BLOCK, w, m, v, contiguous(g), w.size, rate, beta1, 1 - beta1, beta2,
        1 - beta2, float(epsilon), root, float(weight_decay), T=w.dtype,
    )  # fmt: skip


@p.rmsprop_update.on(
    "cuda", name="cuda", supports=_fits, kernels=(_rmsprop_plain, _rmsprop_momentum)
)
def _(
    w: Array,
    a: Array,
    v: Array | None,
    g: Array,
    *,
    lr: float,
    rho: float,
    epsilon: float,
    momentum: float,
    weight_decay: float,
) -> None:
    if not w.size:
        return
    g, decay = contiguous(g), float(weight_decay)
    rates = (float(lr), float(rho), 1 - float(rho), float(epsilon))
    if v is None:
        _rmsprop_plain.launch(pack_grid(w), BLOCK, w, a, g, w.size, *rates, decay, T=w.dtype)
        return
    _rmsprop_momentum.launch(
        pack_grid(w), BLOCK, w, a, v, g, w.size, *rates, float(momentum), decay, T=w.dtype
    )


@p.adagrad_update.on("cuda", name="cuda", supports=_fits, kernels=(_adagrad,))
def _(w: Array, a: Array, g: Array, *, lr: float, epsilon: float, weight_decay: float) -> None:
    if not w.size:
        return
    rates = (float(lr), float(epsilon), float(weight_decay))
    _adagrad.launch(pack_grid(w), BLOCK, w, a, contiguous(g), w.size, *rates, T=w.dtype)
