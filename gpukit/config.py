"""Objects that are made of settings: written down as JSON, and found again by name.

Layers, initialisers, regularisers, losses, optimisers … keep each constructor argument in an
attribute of the same name. That is all it takes to write one down and to make it again. Nothing
that was written down is ever evaluated: names are looked up in a table.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Generic, Self, TypeVar

import numpy as np

from gpukit.errors import CheckpointError, SettingError


class Configurable:
    """Something whose constructor arguments are attributes of the same names."""

    def get_config(self) -> dict[str, Any]:
        """The class name and the constructor arguments, as JSON can hold them."""
        config: dict[str, Any] = {"class": type(self).__name__}
        for name in _arguments(type(self)):
            config[name] = _plain(getattr(self, name), f"{type(self).__name__}'s {name}")
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The object that `get_config` described. Raises CheckpointError where it cannot be."""
        known = _arguments(cls)
        arguments = {name: value for name, value in config.items() if name != "class"}
        unknown = [name for name in arguments if name not in known]
        if unknown:
            raise CheckpointError(
                f"the configuration of a {cls.__name__} has {unknown[0]!r}, which this version of "
                f"gpukit does not know; it knows {', '.join(known)}"
            )
        try:
            return cls(**arguments)
        except TypeError as error:
            raise CheckpointError(f"the configuration of a {cls.__name__}: {error}") from error

    def __repr__(self) -> str:
        shown = ", ".join(f"{n}={getattr(self, n)!r}" for n in _arguments(type(self)))
        return f"{type(self).__name__}({shown})"


T = TypeVar("T", bound=Configurable)


class Family(Generic[T]):
    """The classes of one kind, by class name and by the short names that users write.

    `what` is the kind in messages ("initializer"); `aliases` maps further names to something that
    makes an instance; `wrap`, where given, makes a plain function a member of the family.
    """

    def __init__(
        self,
        what: str,
        base: type[T],
        *,
        wrap: Callable[[Callable[..., Any]], T] | None = None,
    ) -> None:
        self.what = what
        self.base = base
        self.wrap = wrap
        self.classes: dict[str, type[T]] = {}
        self.aliases: dict[str, Callable[[], T]] = {}

    def add(self, *classes: type[T], **aliases: Callable[[], T]) -> None:
        """Enter classes under their own and their snake-case names, and aliases."""
        for member in classes:
            self.classes[member.__name__] = member
            self.aliases.setdefault(snake_case(member.__name__), member)
        self.aliases.update(aliases)

    def get(self, spec: Any) -> T:
        """The member meant by an instance, a name, a class, a configuration or a function."""
        if isinstance(spec, self.base):
            return spec
        if isinstance(spec, str):
            make = self.classes.get(spec) or self.aliases.get(spec.lower())
            if make is None:
                raise SettingError(
                    f"unknown {self.what} {spec!r}; use one of {', '.join(sorted(self.aliases))}"
                )
            return make()
        if isinstance(spec, type) and issubclass(spec, self.base):
            return spec()
        if isinstance(spec, Mapping):
            return self.from_config(spec)
        if self.wrap is not None and callable(spec):
            return self.wrap(spec)
        raise SettingError(f"{spec!r} is no {self.what}; pass a name or an object of that kind")

    def from_config(self, config: Mapping[str, Any]) -> T:
        """The member that `get_config` described; CheckpointError for an unknown class."""
        name = config.get("class")
        if not isinstance(name, str) or name not in self.classes:
            raise CheckpointError(
                f"unknown class {name!r} of a saved {self.what}; this version of gpukit knows "
                f"{', '.join(sorted(self.classes))}"
            )
        return self.classes[name].from_config(config)


def snake_case(name: str) -> str:
    """Conv2D → conv2d, MaxPooling2D → max_pooling2d, LeakyReLU → leaky_relu."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().replace("re_lu", "relu")


def number(
    name: str,
    value: Any,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """`value` as a finite float in [low, high], or beyond `above`, or short of `below`."""
    fine = (
        isinstance(value, (int, float, np.number))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and low <= value <= high
        and (above is None or value > above)
        and (below is None or value < below)
    )
    if not fine:
        limits = []
        if above is not None or low > -math.inf:
            limits.append(f"above {above:g}" if above is not None else f"of at least {low:g}")
        if below is not None or high < math.inf:
            limits.append(f"below {below:g}" if below is not None else f"at most {high:g}")
        allowed = f"a number {' and '.join(limits)}" if limits else "a finite number"
        raise SettingError(f"{name}={show(value)}: use {allowed}")
    return float(value)


def whole(name: str, value: Any, *, low: int = 1) -> int:
    """`value` as a Python integer of at least `low`; no booleans, no floats."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
        raise SettingError(f"{name}={show(value)}: use a whole number, {low} or more")
    return int(value)


def show(value: Any) -> str:
    """A setting as an error message shows it."""
    return repr(value.item() if isinstance(value, np.generic) else value)


def _arguments(cls: type) -> list[str]:
    """Names of the constructor's arguments, in order."""
    return [
        p.name
        for p in inspect.signature(cls).parameters.values()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]


def _plain(value: Any, what: str) -> Any:
    """`value` in the types of JSON."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Configurable):
        return value.get_config()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (tuple, list)):
        return [_plain(v, what) for v in value]
    if isinstance(value, Mapping):
        return {str(k): _plain(v, what) for k, v in value.items()}
    raise SettingError(
        f"{what} is {type(value).__name__} {getattr(value, '__name__', '')!r}, which cannot be "
        "saved; pass one of gpukit's by name"
    )
