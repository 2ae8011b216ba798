"""Activations fused into convolution and dense: which there are, and the way back through them."""

from __future__ import annotations

from typing import Any

from gpukit import primitives as p
from gpukit.core.config import show
from gpukit.errors import SettingError

# The gradient before the activation, from the gradient after it and the output.
GRADIENTS = {"relu": p.relu_grad, "sigmoid": p.sigmoid_grad, "tanh": p.tanh_grad}


def check_epilogue(operation: str, activation: str | None) -> None:
    """Refuse an activation that is not fused into `operation`."""
    if activation is not None and (not isinstance(activation, str) or activation not in GRADIENTS):
        raise SettingError(
            f"{operation}: activation {show(activation)} is not fused here; use "
            f"{', '.join(GRADIENTS)}, or apply another one to the result"
        )


class Epilogue:
    """Turns the gradient of an activated output into that before the activation, once.

    The gradients of input, weights and bias all start from it, so the result is kept until the
    tape lets go of this object.
    """

    __slots__ = ("_activation", "_gz", "_y")

    def __init__(self, y: Any, activation: str | None) -> None:
        self._y = y if activation else None
        self._activation = activation
        self._gz: Any = None

    def __call__(self, gy: Any) -> Any:
        if self._activation is None:
            return gy
        if self._gz is None:
            self._gz = GRADIENTS[self._activation](gy, self._y)
        return self._gz
