"""The settings of a run: checked, completed from a recipe, stored as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from gpukit import models
from gpukit.core import settings as process
from gpukit.core.config import number, whole
from gpukit.core.files import read_at_most
from gpukit.data.levels import Levels, checked
from gpukit.data.sources import EMBEDDED_NAME, SOURCES
from gpukit.device import get_device
from gpukit.dispatch.preference import from_file
from gpukit.errors import CheckpointError, GpukitError, SettingError
from gpukit.initializers import HeNormal
from gpukit.networks.alexnet import GAUSSIAN
from gpukit.runs import recipes
from gpukit.runs.folder import SETTINGS

_RECIPE: Any = None  # as the recipe says
# Settings that some networks have; None where they do not apply.
_OF_NETWORKS = ("columns", "groups", "width", "input_size", "devices", "dropout", "init")
_OF_PICTURES = ("workers", "bad_images", "levels")
_LONGEST = 1 << 20  # bytes of settings
BAD_IMAGES = ("raise", "skip", "quarantine")


@dataclass(frozen=True)
class RunSettings:
    """What fixes a run: the same settings give the same bits on one device.

    What is None becomes what the recipe says (the learning rate and weight decay what suits the
    optimiser); settings of networks, columns to init, and of pictures stay None where they do not
    apply. `devices` has one name for each column, the first of which is `device`. A folder of data
    is kept as an absolute path, so that the run can be taken up from anywhere. `kernel` holds the
    digests of users' kernels by path, `algo` the implementations chosen by primitive.
    """

    model: str
    data: str = EMBEDDED_NAME
    device: str = "cpu"
    dtype: str = "float32"
    epochs: int = _RECIPE
    batch_size: int = _RECIPE
    lr: float = _RECIPE
    optimizer: str = _RECIPE
    weight_decay: float = _RECIPE
    seed: int = 0
    limit: int | None = None
    validation_split: float = _RECIPE
    recipe: str = _RECIPE
    schedule: str = _RECIPE
    columns: int | None = None
    groups: bool | None = None
    width: float | None = None
    input_size: int | None = None
    devices: tuple[str, ...] | None = None
    dropout: float | None = None
    init: str | None = None
    workers: int | None = None
    bad_images: str | None = None
    levels: Levels | None = None
    accumulate: int | None = None
    keep: int = 1
    kernel: dict[str, str] = field(default_factory=dict)
    algo: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._refuse_what_does_not_apply()
        self._place()
        self._fill_in()
        if not self.data:
            raise SettingError("data is an empty name; give a set or a folder")
        if self.data != EMBEDDED_NAME and self.data not in SOURCES:
            folder = process.expanded(self.data)
            if folder.exists():
                self._set("data", str(folder.resolve()))
        get_device(self.device)
        _choice("dtype", self.dtype, ("float32", "float64"))
        _choice("schedule", self.schedule, recipes.SCHEDULES)
        whole("epochs", self.epochs)
        whole("batch-size", self.batch_size)
        whole("seed", self.seed, low=0)
        whole("keep", self.keep)
        number("lr", self.lr, above=0.0)
        number("weight-decay", self.weight_decay, low=0.0)
        number("validation-split", self.validation_split, low=0.0, below=1.0)
        if self.schedule == "plateau" and self.validation_split == 0:
            raise SettingError(
                "the rate falls when validation stands still, and there is none; use a "
                "--validation-split above 0, or --schedule cosine"
            )
        for name in ("limit", "accumulate"):
            if getattr(self, name) is not None:
                whole(name, getattr(self, name))
        if self.takes_pictures:
            self._check_pictures()
        for name in ("kernel", "algo"):
            given: Any = getattr(self, name)
            if not isinstance(given, dict) or not all(isinstance(v, str) for v in given.values()):
                raise SettingError(f"{name} {given!r}: use a name for each of its names")

    @property
    def takes_pictures(self) -> bool:
        """Whether the data are a folder of pictures."""
        return recipes.takes_pictures(self.model)

    @property
    def how(self) -> recipes.Recipe:
        """The recipe that the run follows in all that it has no settings for."""
        return recipes.get(self.model, self.recipe)[1]

    def options(self) -> dict[str, Any]:
        """What the function that makes the network is called with, beside shapes and device."""
        if not self.takes_pictures:
            return {}
        names = ("columns", "groups", "width", "input_size", "dropout", "devices")
        found = {name: getattr(self, name) for name in names}
        if self.init == "he":
            # conv1 as the paper has it: of larger values much would stay in its filters to the
            # end, since smooth pictures say little about their finest grain.
            found["first_initializer"] = GAUSSIAN
            found["kernel_initializer"] = HeNormal(truncated=False)
            found["bias_initializer"] = "zeros"
        return found

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _refuse_what_does_not_apply(self) -> None:
        models.get(self.model)
        for name in (*_OF_NETWORKS, *_OF_PICTURES):
            if not self.takes_pictures and getattr(self, name) is not None:
                raise SettingError(
                    f"--{name.replace('_', '-')} does not apply to {self.model}; leave it out"
                )

    def _place(self) -> None:
        if self.devices is None:
            return
        names: Any = self.devices
        if isinstance(names, str):
            names = [name.strip() for name in names.split(",")]
        if not isinstance(names, Sequence) or not all(isinstance(n, str) and n for n in names):
            raise SettingError(
                f"devices={self.devices!r}: name one for each column, as cpu:0,cpu:1"
            )
        found = tuple(get_device(name).name for name in names)
        self._set("devices", found)
        self._set("device", found[0])

    def _fill_in(self) -> None:
        name, recipe = recipes.get(self.model, self.recipe)
        self._set("recipe", name)
        if self.groups and self.columns is None:
            self._set("columns", 1)
        for key in ("epochs", "batch_size", "optimizer", "validation_split", "schedule"):
            self._default(key, getattr(recipe, key))
        update = recipes.OPTIMIZERS.get(self.optimizer)
        if update is None:
            known = ", ".join(recipes.OPTIMIZERS)
            raise SettingError(f"optimizer {self.optimizer!r}: use {known}")
        best: Any = recipe if self.optimizer == recipe.optimizer else update
        self._default("lr", best.lr)
        self._default("weight_decay", best.weight_decay)
        for key, value in recipe.options.items():
            self._default(key, value)
        if self.takes_pictures:
            self._default("workers", recipes.WORKERS)
            self._default("bad_images", "raise")

    def _default(self, name: str, value: Any) -> None:
        if getattr(self, name) is None:
            self._set(name, value)

    def _check_pictures(self) -> None:
        columns = whole("columns", self.columns)
        number("width", self.width, above=0.0)
        whole("input-size", self.input_size)
        number("dropout", self.dropout, low=0.0, below=1.0)
        whole("workers", self.workers, low=0)
        _choice("init", self.init, recipes.INITS)
        _choice("bad-images", self.bad_images, BAD_IMAGES)
        self._set("levels", checked(self.levels))
        if self.devices is not None and len(self.devices) != columns:
            raise SettingError(
                f"--columns {columns} with --devices {','.join(self.devices)}: name one device "
                "for each column (the same one twice, where there is but one)"
            )

    def to_json(self) -> str:
        kept = {name: value for name, value in asdict(self).items() if value is not None}
        return json.dumps(kept, indent=2) + "\n"

    @classmethod
    def read(cls, folder: Path, **where: Any) -> Self:
        """The settings of the run in `folder`, but those of `where` that are not None.

        A `device` is instead of all `devices`. Raises CheckpointError where they are missing or
        unreadable.
        """
        path = folder / SETTINGS
        where = {name: value for name, value in where.items() if value is not None}
        if "device" in where:
            where.setdefault("devices", None)
        try:
            values = json.loads(read_at_most(_LONGEST, path, CheckpointError))
            known = {f.name for f in fields(cls)}
            found: dict[str, Any] = {k: v for k, v in values.items() if k in known}
            if "algo" in found:
                found["algo"] = from_file(found["algo"])
            return cls(**{**found, **where})
        except (FileNotFoundError, NotADirectoryError):
            raise CheckpointError(f"{folder} holds no run: there is no {SETTINGS} in it") from None
        except GpukitError as error:
            said = str(error)
            raise CheckpointError(said if str(path) in said else f"{path}: {said}") from None
        except (
            OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError,
            RecursionError, MemoryError,
        ) as error:  # fmt: skip
            raise CheckpointError(
                f"{path} is not readable ({' '.join(str(error).split()) or type(error).__name__}); "
                "start a new run"
            ) from None


def _choice(name: str, value: Any, known: Sequence[str]) -> None:
    if value not in known:
        raise SettingError(f"{name} {value!r}: use {' or '.join(known)}")
