"""Public names: `Sequential`, `Model`, the networks, and loading of saved models."""

from gpukit.model.functional import Model
from gpukit.model.loading import clone_model, load_model
from gpukit.model.saving import Base
from gpukit.model.sequential import Sequential
from gpukit.networks import ZOO, alexnet, get, lenet5

__all__ = [
    "ZOO",
    "Base",
    "Model",
    "Sequential",
    "alexnet",
    "clone_model",
    "get",
    "lenet5",
    "load_model",
]
