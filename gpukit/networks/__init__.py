"""Networks by name, one file each; `gpukit.models` is where users find them."""

from collections.abc import Callable

from gpukit.core.config import show
from gpukit.errors import SettingError
from gpukit.model.saving import Base
from gpukit.networks.alexnet import alexnet
from gpukit.networks.lenet import lenet5

# Networks that have a name on the command line.
ZOO: dict[str, Callable[..., Base]] = {"alexnet": alexnet, "lenet5": lenet5}


def get(name: str) -> Callable[..., Base]:
    """The function that makes the network called `name`."""
    if name not in ZOO:
        raise SettingError(f"unknown model {show(name)}; use {', '.join(sorted(ZOO))}")
    return ZOO[name]


__all__ = ["ZOO", "alexnet", "get", "lenet5"]
