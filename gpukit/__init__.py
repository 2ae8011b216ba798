"""Convolutional networks with kernels you can open.

Importing gpukit compiles nothing, touches no GPU and loads little more than NumPy; every room is
opened when it is first entered. Not even typing is imported here, which takes ten times as long.
"""

import importlib

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gpukit import (
        callbacks,
        constraints,
        data,
        initializers,
        layers,
        losses,
        metrics,
        models,
        ops,
        optimizers,
        regularizers,
        schedules,
        testing,
        utils,
    )
    from gpukit.autograd import Parameter, Tensor
    from gpukit.autograd.tape import no_grad
    from gpukit.core.settings import strict
    from gpukit.device import Device, device_of, get_device, to_host
    from gpukit.errors import GpukitError
    from gpukit.layers import Input
    from gpukit.models import Model, Sequential

_NAMES = {
    "Device": "gpukit.device",
    "GpukitError": "gpukit.errors",
    "Input": "gpukit.layers",
    "Model": "gpukit.models",
    "Parameter": "gpukit.autograd",
    "Sequential": "gpukit.models",
    "Tensor": "gpukit.autograd",
    "device_of": "gpukit.device",
    "get_device": "gpukit.device",
    "load_kernel": "gpukit.plugins",
    "no_grad": "gpukit.autograd.tape",
    "strict": "gpukit.core.settings",
    "to_host": "gpukit.device",
}

__all__ = [
    "Device",
    "GpukitError",
    "Input",
    "Model",
    "Parameter",
    "Sequential",
    "Tensor",
    "__version__",
    "callbacks",
    "constraints",
    "data",
    "device_of",
    "get_device",
    "initializers",
    "layers",
    "load_kernel",
    "losses",
    "metrics",
    "models",
    "no_grad",
    "ops",
    "optimizers",
    "regularizers",
    "schedules",
    "strict",
    "testing",
    "to_host",
    "utils",
]


# What the registry opens at a first call; an emulated card has the implementations of a real one.
_LOADERS = {
    "cpu": lambda: importlib.import_module("gpukit.backends.cpu"),
    "cuda": lambda: importlib.import_module("gpukit.backends.cuda"),
    "emu": lambda: importlib.import_module("gpukit.backends.cuda"),
}
_SEARCHES = (lambda name: importlib.import_module("gpukit.plugins").load_named(name),)


def __getattr__(name: str) -> "Any":
    if name in _NAMES:
        # Tensor's operators come from gpukit.ops, so a Tensor is never handed out without them.
        if name in ("Tensor", "Parameter"):
            importlib.import_module("gpukit.ops")
        value = getattr(importlib.import_module(_NAMES[name]), name)
        globals()[name] = value
        return value
    if name in __all__:
        return importlib.import_module(f"gpukit.{name}")
    raise AttributeError(f"module 'gpukit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
