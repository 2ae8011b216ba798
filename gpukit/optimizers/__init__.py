"""Optimisers: they change a model's parameters by their gradients, a parameter buffer at a time."""

from gpukit import schedules
from gpukit.core.config import Family
from gpukit.optimizers.adam import Adam, Adamax, AdamW, Nadam
from gpukit.optimizers.base import PREFIX, Optimizer
from gpukit.optimizers.rules import SGD, Adagrad, Lion, RMSprop

_family = Family[Optimizer]("optimizer", Optimizer)
_family.add(SGD, Adam, AdamW, Adamax, Nadam, RMSprop, Adagrad, Lion, adamw=AdamW)

get = _family.get
from_config = _family.from_config
register = _family.register

__all__ = [
    "PREFIX",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "Nadam",
    "Optimizer",
    "RMSprop",
    "from_config",
    "get",
    "register",
    "schedules",
]
