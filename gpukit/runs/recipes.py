"""Recipes: default settings that train each network of the command line well."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from gpukit import optimizers
from gpukit.errors import SettingError

SCHEDULES = ("cosine", "plateau")
# First values of kernels by the names of --init; images are prepared to go with them.
INITS = ("gaussian", "he")
# Processes that read pictures where nothing is asked for; there are none but on POSIX.
WORKERS = 1 if os.name == "posix" else 0


@dataclass(frozen=True)
class Update:
    """An optimiser for runs: how it is made, and what suits LeNet-5 where nothing else is asked."""

    make: Callable[..., optimizers.Optimizer]
    lr: float
    weight_decay: float


OPTIMIZERS = {
    "sgd": Update(partial(optimizers.SGD, momentum=0.9), 0.03, 2e-3),
    "adam": Update(optimizers.Adam, 0.002, 0.0),
    "rmsprop": Update(optimizers.RMSprop, 0.001, 0.0),
    "adagrad": Update(optimizers.Adagrad, 0.02, 0.0),
}


@dataclass(frozen=True)
class Recipe:
    """Settings of a run that an option of the same name overrides.

    `lr` and `weight_decay` are those of the optimiser `sgd`. `schedule` "cosine" lowers the rate
    at each step along half a cosine; "plateau" divides it by ten when the validation accuracy has
    not improved for `patience` epochs. `options` are settings of the network and of its images.
    """

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    schedule: str
    validation_split: float = 0.1
    optimizer: str = "sgd"
    patience: int = 5
    ten_crop: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


_ALEXNET: dict[str, Any] = {"columns": 2, "groups": False, "dropout": 0.5}

# By the name of the network, the default first.
RECIPES: dict[str, dict[str, Recipe]] = {
    "lenet5": {
        "default": Recipe(epochs=20, batch_size=64, lr=0.03, weight_decay=2e-3, schedule="cosine")
    },
    "alexnet": {
        # Small pictures on a small machine: the paper's Gaussian 0.01 starves narrow layers.
        "small": Recipe(
            epochs=16,
            batch_size=64,
            lr=0.01,
            weight_decay=5e-4,
            schedule="cosine",
            options={**_ALEXNET, "init": "he", "width": 0.5, "input_size": 99, "dropout": 0.3},
        ),
        # Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural
        # networks", 2012: sections 4 and 5.
        "paper": Recipe(
            epochs=90,
            batch_size=128,
            lr=0.01,
            weight_decay=5e-4,
            schedule="plateau",
            validation_split=0.05,
            ten_crop=True,
            options={**_ALEXNET, "init": "gaussian", "width": 1.0, "input_size": 227},
        ),
    },
}


def get(model: str, name: str | None) -> tuple[str, Recipe]:
    """The recipe of `model` called `name`, by default the first, with its name."""
    known = RECIPES[model]
    if name is None:
        name = next(iter(known))
    if name not in known:
        raise SettingError(f"--recipe {name!r}: for {model} use {', '.join(known)}")
    return name, known[name]


def takes_pictures(model: str) -> bool:
    """Whether the network is trained on folders of pictures, cut to a size of its own."""
    recipes = RECIPES.get(model, {})
    return any("input_size" in recipe.options for recipe in recipes.values())
