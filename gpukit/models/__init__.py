"""Models: chains and graphs of layers, and the networks of the lecture notes."""

from collections.abc import Callable

from gpukit.core.config import show
from gpukit.errors import SettingError
from gpukit.models.alexnet import alexnet
from gpukit.models.base import Base
from gpukit.models.functional import Model
from gpukit.models.lenet import lenet5
from gpukit.models.saving import load_model
from gpukit.models.sequential import Sequential

# Networks that have a name on the command line.
ZOO: dict[str, Callable[..., Base]] = {"alexnet": alexnet, "lenet5": lenet5}


def get(name: str) -> Callable[..., Base]:
    """The function that makes the network called `name`."""
    if name not in ZOO:
        raise SettingError(f"unknown model {show(name)}; use {', '.join(sorted(ZOO))}")
    return ZOO[name]


__all__ = [
    "ZOO",
    "Base",
    "Model",
    "Sequential",
    "alexnet",
    "get",
    "lenet5",
    "load_model",
]
