"""The settings of a run: checked, with defaults that suit LeNet-5, and kept as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Self

from gpukit import models, optimizers
from gpukit.config import number, whole
from gpukit.data.sources import EMBEDDED_NAME, SOURCES
from gpukit.device import get_device
from gpukit.errors import CheckpointError, SettingError
from gpukit.runs.folder import SETTINGS


@dataclass(frozen=True)
class Recipe:
    """An optimiser for runs: how it is made, and what suits LeNet-5 where nothing else is asked."""

    make: Callable[..., optimizers.Optimizer]
    lr: float
    weight_decay: float


RECIPES = {
    "sgd": Recipe(partial(optimizers.SGD, momentum=0.9), 0.03, 2e-3),
    "adam": Recipe(optimizers.Adam, 0.002, 0.0),
    "rmsprop": Recipe(optimizers.RMSprop, 0.001, 0.0),
    "adagrad": Recipe(optimizers.Adagrad, 0.02, 0.0),
}


@dataclass(frozen=True)
class RunSettings:
    """What fixes a run: the same settings give the same bits on one device.

    A learning rate or weight decay of None becomes the one of the optimiser's recipe. A folder of
    data is kept as an absolute path, so that the run can be taken up from anywhere. `kernel` holds
    the digests of users' kernels by path, `algo` the implementations chosen by primitive.
    """

    model: str
    data: str = EMBEDDED_NAME
    device: str = "cpu"
    dtype: str = "float32"
    epochs: int = 20
    batch_size: int = 64
    lr: float | None = None
    optimizer: str = "sgd"
    weight_decay: float | None = None
    seed: int = 0
    limit: int | None = None
    validation_split: float = 0.1
    kernel: dict[str, str] = field(default_factory=dict)
    algo: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        models.get(self.model)
        recipe = RECIPES.get(self.optimizer)
        if recipe is None:
            raise SettingError(f"optimizer {self.optimizer!r}: use {', '.join(RECIPES)}")
        for name, value in (("lr", recipe.lr), ("weight_decay", recipe.weight_decay)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if self.data != EMBEDDED_NAME and self.data not in SOURCES:
            folder = Path(self.data).expanduser()
            if folder.exists():
                object.__setattr__(self, "data", str(folder.resolve()))
        get_device(self.device)
        if self.dtype not in ("float32", "float64"):
            raise SettingError(f"dtype {self.dtype!r}: use float32 or float64")
        whole("epochs", self.epochs)
        whole("batch-size", self.batch_size)
        whole("seed", self.seed, low=0)
        number("lr", self.lr, above=0.0)
        number("weight-decay", self.weight_decay, low=0.0)
        number("validation-split", self.validation_split, low=0.0, below=1.0)
        if self.limit is not None:
            whole("limit", self.limit)
        for name in ("kernel", "algo"):
            given: Any = getattr(self, name)
            if not isinstance(given, dict) or not all(isinstance(v, str) for v in given.values()):
                raise SettingError(f"{name} {given!r}: use a name for each of its names")

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def read(cls, folder: Path, device: str | None = None) -> Self:
        """The settings of the run in `folder`; with `device`, of one that goes on there.

        Raises CheckpointError where they are missing or unreadable.
        """
        path = folder / SETTINGS
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            known = {f.name for f in fields(cls)}
            found: dict[str, Any] = {k: v for k, v in values.items() if k in known}
            return cls(**(found if device is None else {**found, "device": device}))
        except (FileNotFoundError, NotADirectoryError):
            raise CheckpointError(f"{folder} holds no run: there is no {SETTINGS} in it") from None
        except SettingError as error:
            raise CheckpointError(f"{path}: {error}") from None
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise CheckpointError(
                f"{path} is not readable ({' '.join(str(error).split())}); start a new run"
            ) from None
