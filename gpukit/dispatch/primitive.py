"""One name, many implementations, chosen by where the arrays live.

A primitive is a NumPy function: that function is its definition, its oracle and its last fallback.
Backends register implementations with the same signature:

    @primitive
    def relu(x): ...

    @relu.on("cpu", name="numba")
    def _(x): ...

A call takes the implementation asked for with `algo=`, else the first registered one that supports
the arguments, else the definition itself, which runs on the arrays of any device.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gpukit.core.config import show
from gpukit.device import CPU, Device, DeviceArray, device_of, homes
from gpukit.dispatch.precision import FULL, Precision
from gpukit.dispatch.precision import precision as by_name
from gpukit.dispatch.preference import FromFile, absent, fell_back, preferred, shown
from gpukit.errors import SettingError

REFERENCE = "reference"

registry: dict[str, Primitive] = {}

# Packages that register the implementations of a kind of device, imported at its first call.
_packages = {
    "cpu": ("gpukit.backends.cpu",),
    "cuda": ("gpukit.backends.cuda",),
    "emu": ("gpukit.backends.cuda",),
}
# An emulated card has no implementations of its own: it runs those of a real one, unless they are
# `on(…, emulated=False)`.
_registered_as = {"emu": "cuda"}
_loaded: set[str] = set()
_NUMBERS = {int, float, bool, type(None)}  # arguments that are on no device
# While a plug-in is loaded: its origin, and what it registers.
_recording: tuple[str, list[tuple[Primitive, Implementation]]] = ("", [])


class Implementation:
    """One way to compute a primitive: `function`, its `name`, and what it `supports`.

    `emulated`: whether an emulated device runs it, too. `origin`: the plug-in that it came with,
    empty for gpukit's own. `precision`: what it keeps of the factors of its products.
    `default_when`: for which of the arguments that it supports it may be the default.
    """

    __slots__ = (
        "default_when",
        "emulated",
        "function",
        "kind",
        "name",
        "origin",
        "precision",
        "supports",
    )  # fmt: skip

    def __init__(
        self,
        function: Callable[..., Any],
        kind: str,
        name: str,
        supports: Callable[..., bool] | None = None,
        emulated: bool = True,
        default_when: Callable[..., bool] | None = None,
        precision: Precision = FULL,
    ) -> None:
        self.emulated = emulated
        self.function = function
        self.kind = kind
        self.name = name
        self.precision = precision
        self.origin = "" if _is_ours(function) else _recording[0]
        self.supports = supports
        self.default_when = default_when

    def takes(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether these arguments are within the declared limits."""
        return self.supports is None or bool(self.supports(*args, **kwargs))

    def is_default(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a call without `algo` may take it."""
        if self.supports is not None and not self.supports(*args, **kwargs):
            return False
        return self.default_when is None or bool(self.default_when(*args, **kwargs))

    def __repr__(self) -> str:
        return f"Implementation({self.kind}:{self.name})"


class Primitive:
    """A named operation on arrays, callable like its definition, plus `algo=` to choose a way."""

    def __init__(self, reference: Callable[..., Any]) -> None:
        self.name = reference.__name__
        self.__name__ = self.name
        self.__doc__ = reference.__doc__
        self.__module__ = reference.__module__
        self.reference = reference
        self.signature = inspect.signature(reference)
        self.__signature__ = self.signature
        self._reference = Implementation(reference, "any", REFERENCE)
        self._by_kind: dict[str, dict[str, Implementation]] = {}

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def on(
        self,
        kind: str,
        *,
        name: str,
        supports: Callable[..., bool] | None = None,
        emulated: bool = True,
        default_when: Callable[..., bool] | None = None,
        precision: str = FULL.name,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register an implementation for devices of `kind`; the first registered is the default.

        `supports` is called with the same arguments and says whether they are within the limits.
        With `emulated` False, "cuda" means real cards only, not emu. `default_when`, called like
        `supports`, says where it may be the default; else only `algo` chooses it. `precision` is
        "full", or "tf32", "fp16" or "bf16" for one that rounds the factors of its products. The
        parameters must be those of the definition, by name, order and kind.
        """
        rounds_to = by_name(precision)

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            if _parameters(function) != _parameters(self.reference):
                raise TypeError(
                    f"{kind}:{name} of {self.name} has parameters {inspect.signature(function)}, "
                    f"the definition {self.signature}"
                )
            if not _is_ours(function):
                load_backend(kind)  # whose implementations come first: one of them is the default
            ways = self._by_kind.setdefault(kind, {})
            if name in ways or name == REFERENCE:
                raise TypeError(f"{self.name} already has an implementation {kind}:{name}")
            ways[name] = Implementation(
                function, kind, name, supports, emulated, default_when, rounds_to
            )
            if ways[name].origin:
                _recording[1].append((self, ways[name]))
            return function

        return register

    def remove(self, way: Implementation) -> None:
        """Undo a registration."""
        ways = self._by_kind.get(way.kind, {})
        if ways.get(way.name) is way:
            del ways[way.name]

    def implementations(self, kind: str) -> dict[str, Implementation]:
        """Every way to compute this on `kind`, best first, the definition last."""
        load_backend(kind)
        return {**self._ways(kind), REFERENCE: self._reference}

    def _ways(self, kind: str) -> dict[str, Implementation]:
        if kind not in _registered_as:
            return self._by_kind.get(kind, {})
        ways = self._by_kind.get(_registered_as[kind], {})
        return {name: way for name, way in ways.items() if way.emulated}

    def choose(
        self, device: Device, algo: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Implementation:
        """The implementation that a call with these arguments takes on `device`.

        That of `algo`, else the one preferred in this context, where it supports the arguments;
        else the default, which is said once. Raises SettingError for an `algo` that is not there.
        """
        kind = device.kind
        if kind not in _loaded:
            load_backend(kind)
        asked = preferred(self.name) if algo is None else algo
        if asked is None:
            return self._default(kind, args, kwargs)
        if not isinstance(asked, str):
            raise SettingError(
                f"{self.name}: algo={show(asked)}: use the name of an implementation"
            )
        chosen = self.find(device.kind, asked)
        if chosen is None and algo is not None and not isinstance(algo, FromFile):
            raise SettingError(self.lacks(device.kind, algo))
        if chosen is not None and chosen.takes(args, kwargs):
            return chosen
        taken = self._default(device.kind, args, kwargs)
        takes = f"{asked} does not take {shown(args, kwargs)}"
        fell_back(self.name, asked, device.kind, taken.name, takes if chosen else absent(asked))
        return taken

    def find(self, kind: str, name: str) -> Implementation | None:
        """The implementation `name` on `kind`; looked for among installed plug-ins, too, unless
        only a file gives the name."""
        load_backend(kind)
        if name == REFERENCE:
            return self._reference
        found = self._ways(kind).get(name)
        if isinstance(name, FromFile):
            return found
        if found is None and name not in self._ways(_registered_as.get(kind, kind)):
            importlib.import_module("gpukit.plugins").load_named(name)
            found = self._ways(kind).get(name)
        return found

    def _default(self, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Implementation:
        real = _registered_as.get(kind, kind)
        for way in self._by_kind.get(real, {}).values():
            if (way.emulated or kind == real) and way.is_default(args, kwargs):
                return way
        return self._reference

    def lacks(self, kind: str, algo: str) -> str:
        """That there is no such implementation on `kind`, and which there are."""
        names = ", ".join([*self._ways(kind), REFERENCE])
        real = _registered_as.get(kind, kind)
        only = " (it needs a real card)" if algo in self._by_kind.get(real, {}) else ""
        if not only:
            others = [k for k, ways in self._by_kind.items() if algo in ways]
            only = f" (it is one for {', '.join(others)})" if others else ""
        return f"{self.name} has no algo {algo!r} on {kind}{only}; use {names}"

    def __call__(self, *args: Any, algo: str | None = None, **kwargs: Any) -> Any:
        device = _device_of_arguments(args)
        if device.is_twin:
            args = tuple(_data(a) for a in args)
            return _tag(self.choose(device, algo, args, kwargs).function(*args, **kwargs), device)
        way = self.choose(device, algo, args, kwargs)
        if device.kind == "cuda":
            with device.current():
                result = way.function(*args, **kwargs)
        else:
            result = way.function(*args, **kwargs)
        # NumPy's functions make scalars of results of shape (); arrays in means arrays out.
        return np.asarray(result) if isinstance(result, np.generic) else result


def primitive(function: Callable[..., Any]) -> Primitive:
    """Define a primitive by its NumPy function and enter it into the registry."""
    if function.__name__ in registry:
        raise TypeError(f"two primitives are called {function.__name__}")
    made = registry[function.__name__] = Primitive(function)
    return made


def load_backend(kind: str) -> None:
    """Import the package that registers the implementations of `kind`, once."""
    if kind not in _loaded:
        for package in _packages.get(kind, ()):
            importlib.import_module(package)
        _loaded.add(kind)


@contextmanager
def recorded(origin: str) -> Iterator[list[tuple[Primitive, Implementation]]]:
    """Within the block, what is registered comes from `origin`; the list gets it."""
    global _recording
    before, found = _recording, []  # type: ignore[var-annotated]
    _recording = (origin, found)
    try:
        yield found
    finally:
        _recording = before


def _is_ours(function: Callable[..., Any]) -> bool:
    return (getattr(function, "__module__", None) or "").startswith("gpukit.")


def _parameters(function: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def _device_of_arguments(args: tuple[Any, ...]) -> Device:
    # The common case, all NumPy, costs one type comparison an argument.
    for a in args:
        if type(a) is not np.ndarray and type(a) not in _NUMBERS:
            break
    else:
        return CPU
    arrays: list[Any] = []
    for a in args:
        if type(a) in homes:
            arrays.append(a)
        elif isinstance(a, (list, tuple)):
            arrays.extend(a)
        elif a is not None and not isinstance(a, (int, float, np.generic)):
            arrays.append(a)
    return device_of(*arrays)


def _data(value: Any) -> Any:
    if isinstance(value, DeviceArray):
        return value.data
    if isinstance(value, (list, tuple)):
        return type(value)(_data(v) for v in value)
    return value


def _tag(value: Any, device: Device) -> Any:
    if isinstance(value, np.ndarray):
        return DeviceArray(value, device)
    if isinstance(value, np.generic):
        return DeviceArray(np.asarray(value), device)
    if isinstance(value, tuple):
        return tuple(_tag(v, device) for v in value)
    return value
