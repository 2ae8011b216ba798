"""Launchers of kernels/update.cu: optimisers' steps over a flat buffer, in place."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from gpukit import primitives as p
from gpukit.backends.cuda.runtime.common import BLOCK, contiguous, is_float, pack_grid
from gpukit.dispatch.primitive import Primitive, with_signature
from gpukit.launch.kernel import Kernel
from gpukit.primitives.accumulate import Array

Launch = tuple[Kernel, tuple[float, ...], dict[str, Any]]  # its numbers, its template's arguments

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


def _register(update: Primitive, choose: Callable[..., Launch], *kernels: Kernel) -> None:
    """`choose`, given the optimiser's state and the settings as floats, says what to launch."""

    def run(*arrays: Any, **settings: Any) -> None:
        w, *state, g = arrays
        if not w.size:
            return
        floats = {name: float(setting) for name, setting in settings.items()}
        kernel, numbers, template = choose(*state, **floats)
        held = [a for a in state if a is not None]
        kernel.launch(
            pack_grid(w), BLOCK, w, *held, contiguous(g), w.size, *numbers, T=w.dtype, **template
        )

    update.on("cuda", name="cuda", supports=_fits, kernels=kernels)(with_signature(update, run))


def _sgd(
    v: Array | None, lr: float, momentum: float, weight_decay: float, nesterov: float
) -> Launch:
    if v is None:
        return _plain, (lr, weight_decay), {}
    return _momentum, (lr, momentum, weight_decay), {"NESTEROV": bool(nesterov)}


def _adam_of(
    m: Array, v: Array, lr: float, beta1: float, beta2: float, step: float, **rest: float
) -> Launch:
    rate, root = lr / (1 - beta1**step), 1 / math.sqrt(1 - beta2**step)
    means = (beta1, 1 - beta1, beta2, 1 - beta2)
    return _adam, (rate, *means, rest["epsilon"], root, rest["weight_decay"]), {}


def _rmsprop(a: Array, v: Array | None, lr: float, rho: float, **rest: float) -> Launch:
    rates, decay = (lr, rho, 1 - rho, rest["epsilon"]), rest["weight_decay"]
    if v is None:
        return _rmsprop_plain, (*rates, decay), {}
    return _rmsprop_momentum, (*rates, rest["momentum"], decay), {}


def _adagrad_of(a: Array, lr: float, epsilon: float, weight_decay: float) -> Launch:
    return _adagrad, (lr, epsilon, weight_decay), {}


_register(p.sgd_update, _sgd, _plain, _momentum)
_register(p.adam_update, _adam_of, _adam)
_register(p.rmsprop_update, _rmsprop, _rmsprop_plain, _rmsprop_momentum)
_register(p.adagrad_update, _adagrad_of, _adagrad)
