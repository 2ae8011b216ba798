"""Objects configured by settings: saved as JSON and looked up by name.

Layers, initialisers, regularisers, losses, optimisers … keep each constructor argument in an
attribute of the same name. That is enough to save one and to build it again. Nothing that is loaded
is ever evaluated: names are looked up in a table (`core.registry` has those of users).
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np

from gpukit.core import registry
from gpukit.errors import CheckpointError, SettingError


class _Checked(type):
    """Checks the names of a constructor's arguments before it runs."""

    @property
    def __signature__(cls) -> inspect.Signature:
        init = cls.__init__  # type: ignore[misc]
        if init is object.__init__:
            return inspect.Signature()
        signature = inspect.signature(init)
        return signature.replace(parameters=[*signature.parameters.values()][1:])

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if kwargs:
            names, any_name = _names_of(cls)
            for name in [n for n in kwargs if n not in names]:
                accepted = cls.keras_defaults.get(name)  # type: ignore[attr-defined]
                if accepted is not None:
                    _refuse_other(cls.__name__, name, kwargs.pop(name), accepted)
                elif not any_name:
                    raise TypeError(unknown_argument(cls.__name__, name, names))
        made = super().__call__(*args, **kwargs)
        if _names_of(cls)[1]:
            # Those that `**options` passed on to a base's constructor are configuration too. A
            # name that none gave is one, for other names may be free where a file is loaded.
            known = _of_bases(cls)
            auto = {"name"} if getattr(made, "auto_named", False) else set()
            made._passed_on = [n for n in known if n in kwargs or n in auto]
        return made


@functools.cache
def _names_of(cls: type) -> tuple[tuple[str, ...], bool]:
    """Names of a class's arguments, and whether it takes any others."""
    parameters = inspect.signature(cls).parameters.values()
    names = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return tuple(names), any(p.kind is p.VAR_KEYWORD for p in parameters)


@functools.cache
def _of_bases(cls: type) -> tuple[str, ...]:
    """Names of arguments of the constructors of a class's bases that its own does not name."""
    bases = [base for base in cls.__mro__[1:] if isinstance(base, _Checked)]
    names = dict.fromkeys(name for base in bases for name in _names_of(base)[0])
    return tuple(name for name in names if name not in _names_of(cls)[0])


def unknown_argument(function: str, name: str, known: Sequence[str]) -> str:
    """What a TypeError says of an argument that `function` does not have."""
    near = difflib.get_close_matches(name, known, 1, 0.5)
    way_out = f"did you mean {near[0]}?" if near else f"it takes {', '.join(known) or 'none'}"
    return f"{function}() has no argument {name!r}; {way_out}"


def _refuse_other(owner: str, name: str, value: Any, accepted: Sequence[Any]) -> None:
    if not any(value is a or (type(value) is type(a) and value == a) for a in accepted):
        raise SettingError(
            f"{owner}: {name}={show(value)}: gpukit has {name}={accepted[-1]!r} alone; leave it out"
        )


class Configurable(metaclass=_Checked):
    """Something whose constructor arguments are attributes of the same names.

    `keras_defaults` are arguments of Keras that a class takes at the values given alone.
    """

    keras_defaults: ClassVar[Mapping[str, Sequence[Any]]] = {}
    _passed_on: Sequence[str] = ()

    def get_config(self) -> dict[str, Any]:
        """The class name and the constructor arguments, as JSON can hold them.

        A function is {"function": its name}. Raises SettingError for what JSON cannot hold.
        """
        cls = type(self)
        config: dict[str, Any] = {"class": registry.name_of(cls, registry.module_of(cls))}
        for name in (*_arguments(cls), *self._passed_on):
            if not hasattr(self, name):
                raise SettingError(
                    f"{cls.__name__} has no attribute {name!r}, which its __init__ takes; set "
                    f"self.{name} = {name}, or write get_config"
                )
            config[name] = _plain(getattr(self, name), f"{cls.__name__}'s {name}", cls)
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The object that `get_config` described. Raises CheckpointError where it cannot be."""
        known = [*_arguments(cls), *(_of_bases(cls) if _names_of(cls)[1] else ())]
        arguments = _arguments_in(cls, config)
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


F = TypeVar("F", bound=Callable[..., None])


def extends(base: type, last: Sequence[str] = ()) -> Callable[[F], F]:
    """A decorator of an `__init__(self, …, **options)` that hands `options` to that of `base`.

    The constructor then takes, by position or by keyword, its own positional parameters, those of
    `base` with their types and defaults, and its own keyword-only ones; those named in `last` come
    at the end. That is what its signature, messages and configurations show. Its errors are named
    as `base.naming_errors` does, where there is one.
    """
    naming: Any = getattr(base, "naming_errors", contextlib.nullcontext)

    def decorate(init: F) -> F:
        given = inspect.signature(init).parameters
        theirs = inspect.signature(base.__init__).parameters.values()  # type: ignore[misc]
        own = [p for p in given.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        more = [p for p in theirs if p.name not in given]
        more += [p for p in given.values() if p.kind is p.KEYWORD_ONLY]
        rest = [p for p in more if p.kind is p.VAR_KEYWORD]
        more = [p.replace(kind=p.POSITIONAL_OR_KEYWORD) for p in more if p not in rest]
        more.sort(key=lambda p: p.name in last)
        signature = inspect.Signature([*own, *more, *rest], return_annotation="None")

        @functools.wraps(init)
        def extended(*args: Any, **kwargs: Any) -> None:
            try:
                arguments = signature.bind(*args, **kwargs).arguments
            except TypeError as error:
                name = init.__qualname__.removesuffix(".__init__")
                raise TypeError(f"{name}() {error}") from None
            for p in rest:
                arguments.update(arguments.pop(p.name, {}))
            with naming(arguments["self"]):
                init(**arguments)

        extended.__signature__ = signature  # type: ignore[attr-defined]
        return extended  # type: ignore[return-value]

    return decorate


T = TypeVar("T", bound=Configurable)
_LONGEST = 60  # characters of a value in a message


class Family(Generic[T]):
    """The classes of one kind, by class name and by the short names that users write.

    `what` is the kind in messages ("initializer"); `aliases` maps further names to something that
    makes an instance; `wrap`, where given, makes a plain function a member of the family.
    `functions`: whether functions may be registered, by default where there is `wrap`.
    """

    def __init__(
        self,
        what: str,
        base: type[T],
        *,
        wrap: Callable[[Callable[..., Any]], T] | None = None,
        functions: bool = False,
    ) -> None:
        self.what = what
        self.base = base
        self.module = registry.module_of(base)
        self.wrap = wrap
        self.functions = functions or wrap is not None
        self.classes: dict[str, type[T]] = {}
        self.aliases: dict[str, Callable[[], T]] = {}

    def add(self, *classes: type[T], **aliases: Callable[[], T]) -> None:
        """Enter classes under their own and their snake-case names, and aliases."""
        for member in classes:
            self.classes[member.__name__] = member
            self.aliases.setdefault(snake_case(member.__name__), member)
        self.aliases.update(aliases)

    def register(self, member: Any = None, *, name: str | None = None) -> Any:
        """Let files and strings name a class or a function of yours; a decorator.

            @gpukit.losses.register
            class Smooth(gpukit.losses.Loss): …

        `name` is its name there, by default its own. Raises SettingError for a name of gpukit's.
        """
        if member is None:
            return functools.partial(self.register, name=name)
        called = getattr(member, "__name__", "") if name is None else text("register: name", name)
        is_class = isinstance(member, type)
        if (is_class and not issubclass(member, self.base)) or not callable(member):
            raise SettingError(
                f"{self.module}.register: {show(member)} is no {self.what}; register a subclass of "
                f"{self.base.__name__}{' or a function' if self.functions else ''}"
            )
        if not is_class and not self.functions:
            raise SettingError(
                f"{self.module}.register: a {self.what} is a class; register a subclass of "
                f"{self.base.__name__}"
            )
        if not called.strip("<>").isprintable() or called in ("", "<lambda>"):
            raise SettingError(f"{self.module}.register: {show(member)} has no name; give name=…")
        taken = self.classes.get(called) or self.aliases.get(snake_case(called))
        if getattr(taken, "__module__", "").startswith("gpukit.") and taken is not member:
            raise SettingError(
                f"{self.module}.register: gpukit has a {self.what} named {called!r}; give another "
                "name=…"
            )
        registry.enter(self.module, member, called)
        if is_class:
            self.classes[called] = member
            self.aliases[snake_case(called)] = member
        return member

    def has_own(self, name: str) -> bool:
        """Whether users gave or registered a class or function of this name."""
        return self._own(name) is not None

    def _own(self, name: str) -> Any:
        return registry.given(name) or registry.registered_function(self.module, name)

    def get(self, spec: Any) -> T:
        """The member meant by an instance, a name, a class, a configuration or a function."""
        if isinstance(spec, self.base):
            return spec
        if isinstance(spec, str):
            if (own := self._own(spec)) is not None:
                return self.get(own)
            make = self.classes.get(spec) or self.aliases.get(spec.lower())
            if make is None:
                known = ", ".join(sorted(self.aliases))
                raise SettingError(f"unknown {self.what} {show(spec)}; use one of {known}")
            return make()
        if isinstance(spec, type) and issubclass(spec, self.base):
            return spec()
        if isinstance(spec, Mapping):
            return self.from_config(spec)
        if self.wrap is not None and callable(spec):
            return self.wrap(spec)
        raise SettingError(f"{show(spec)} is no {self.what}; pass a name or an object of that kind")

    def get_if_given(self, spec: Any) -> T | None:
        """`get`; None where `spec` is None."""
        return None if spec is None else self.get(spec)

    def from_config(self, config: Mapping[str, Any]) -> T:
        """The member that `get_config` described; CheckpointError for an unknown class."""
        name = config.get("class")
        if self.wrap is not None and _names_function(config.get("function")):
            return self.wrap(registry.function(self.module, config["function"]["function"]))
        cls = registry.given(name) if isinstance(name, str) else None
        cls = cls or (self.classes.get(name) if isinstance(name, str) else None)
        if not (isinstance(cls, type) and issubclass(cls, self.base)):
            near = get_close_matches(str(name), self.classes, 3) or sorted(self.classes)[:12]
            raise CheckpointError(
                f"unknown class {name!r} of a saved {self.what}; this version of gpukit knows "
                f"{', '.join(near)} and others. One of your own: register it "
                f"(@{self.module}.register), or give custom_objects={{{name!r}: …}}"
            )
        return cls.from_config(_arguments_in(cls, config))


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
    finite: bool = True,
) -> float:
    """`value` as a float in [low, high], or beyond `above`, or short of `below`; a finite one,
    unless with `finite` False."""
    fine = (
        isinstance(value, (int, float, np.number))
        and not isinstance(value, (bool, np.complexfloating))
        and (math.isfinite(value) or not finite)
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


def whole(name: str, value: Any, *, low: int | None = 1) -> int:
    """`value` as a Python integer of at least `low`, if that is given; no booleans, no floats."""
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, np.integer))
        or (low is not None and value < low)
    ):
        least = "" if low is None else f", {low} or more"
        raise SettingError(f"{name}={show(value)}: use a whole number{least}")
    return int(value)


def flag(name: str, value: Any) -> bool:
    """`value` as a Python boolean: True or False, or the 1 and 0 that stand for them."""
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    raise SettingError(f"{name}={show(value)}: use True or False")


def text(name: str, value: Any) -> str:
    """`value` as a text that is not empty."""
    if isinstance(value, str) and value:
        return value
    raise SettingError(f"{name}={show(value)}: use a text")


def path(name: str, value: Any) -> Path:
    """`value`, a text or a path, as a path."""
    if isinstance(value, (str, os.PathLike)) and isinstance(found := os.fspath(value), str):
        return Path(found)
    raise SettingError(f"{name}={show(value)}: use a path, as a text")


def wholes(name: str, value: Any) -> tuple[int, ...]:
    """`value`, a tuple or list of whole numbers, as a tuple of Python integers."""
    if isinstance(value, (tuple, list)):
        try:
            return tuple(whole(name, n, low=None) for n in value)
        except SettingError:
            pass
    raise SettingError(f"{name}={show(value)}: use a tuple of whole numbers")


def axes(name: str, value: Any) -> int | tuple[int, ...] | None:
    """`value` as an axis, a tuple of them, or None for all."""
    if value is None:
        return None
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    try:
        return wholes(name, value)
    except SettingError:
        raise SettingError(
            f"{name}={show(value)}: use a whole number, a tuple of them, or None"
        ) from None


def _real(name: str, value: Any) -> float:
    return value if type(value) is float and -math.inf < value < math.inf else number(name, value)


# What a parameter's annotation says of it, for `checks`; others are checked by who uses them.
_BY_ANNOTATION: dict[str, Callable[[str, Any], Any]] = {
    "bool": flag,
    "int": lambda name, value: value if type(value) is int else whole(name, value, low=None),
    "float": _real,
    "Axis": axes,
    "Sequence[int]": wholes,
    "Sequence[int] | None": lambda name, value: None if value is None else wholes(name, value),
}


def checks(function: Callable[..., Any]) -> dict[str, Callable[[str, Any], Any]]:
    """For each keyword-only parameter of `function` whose annotation says enough, its check."""
    return {
        p.name: _BY_ANNOTATION[p.annotation]
        for p in inspect.signature(function).parameters.values()
        if p.kind == p.KEYWORD_ONLY and p.annotation in _BY_ANNOTATION
    }


def show(value: Any) -> str:
    """A setting as an error message shows it: in one short line."""
    if isinstance(ndim := getattr(value, "ndim", 0), int) and ndim:
        return f"<{type(value).__name__} {tuple(value.shape)} of {value.dtype}>"
    shown = " ".join(repr(value.item() if isinstance(value, np.generic) else value).split())
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"


def _arguments(cls: type) -> list[str]:
    """Names of the constructor's arguments, in order."""
    return [
        p.name
        for p in inspect.signature(cls).parameters.values()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]


def _arguments_in(cls: type, config: Mapping[str, Any]) -> dict[str, Any]:
    """The constructor's arguments that `config` has: without "class", functions by their names."""
    module = registry.module_of(cls)
    return {
        name: registry.function(module, value["function"]) if _names_function(value) else value
        for name, value in config.items()
        if name != "class"
    }


def _names_function(value: Any) -> bool:
    return isinstance(value, Mapping) and list(value) == ["function"]


def _plain(value: Any, what: str, owner: type) -> Any:
    """`value` in the types of JSON; `owner` is the class that it is an argument of."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Configurable):
        return described(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (tuple, list)):
        return [_plain(v, what, owner) for v in value]
    if isinstance(value, Mapping):
        return {str(k): _plain(v, what, owner) for k, v in value.items()}
    if callable(value) and not isinstance(value, type):
        return {"function": registry.name_of(value, registry.module_of(owner), what)}
    raise SettingError(
        f"{what} is {type(value).__name__} {getattr(value, '__name__', '')!r}, which cannot be "
        "saved; pass one of gpukit's by name"
    )


def described(member: Configurable) -> dict[str, Any]:
    """`member.get_config()` with the class that files name, whoever wrote `get_config`."""
    cls = type(member)
    config = member.get_config()
    if not isinstance(config, Mapping):
        raise SettingError(f"{cls.__name__}.get_config returned {show(config)}; return a dict")
    return {**config, "class": registry.name_of(cls, registry.module_of(cls))}
