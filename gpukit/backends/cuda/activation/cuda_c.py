"""Launchers of kernels/activation.cu: activations of each element."""

from __future__ import annotations

from typing import Any

from gpukit.backends.cuda.runtime.common import alike, by_element
from gpukit.dispatch.primitive import Primitive, registry, with_signature
from gpukit.launch.kernel import Kernel
from gpukit.primitives import activation
from gpukit.primitives.accumulate import Array

_unary = Kernel("activation.cu", "unary")
_gradient = Kernel("activation.cu", "gradient")


def _register(primitive: Primitive) -> None:
    """The kernel's function is the primitive's name in camel case; it has one setting at most."""
    function = primitive.name.title().replace("_", "")
    kernel = _gradient if primitive.name.endswith("_grad") else _unary

    def run(*arrays: Array, **settings: Any) -> Array:
        return by_element(kernel, function, *arrays, numbers=[*settings.values()] or [0.0])

    run = with_signature(primitive, run)
    primitive.on("cuda", name="cuda", supports=alike, kernels=(kernel,))(run)


for _primitive in registry.values():
    if _primitive.__module__ == activation.__name__:
        _register(_primitive)
