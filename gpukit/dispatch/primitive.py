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

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from gpukit.core.config import show
from gpukit.device import BACKENDS, CPU, Device, device_of, homes
from gpukit.dispatch.declaration import Declaration
from gpukit.dispatch.precision import FULL, Precision
from gpukit.dispatch.precision import precision as by_name
from gpukit.dispatch.preference import FromFile, absent, fell_back, preferred, shown
from gpukit.dispatch.registry import Registry, default
from gpukit.errors import SettingError

REFERENCE = "reference"

# Arguments of these types alone, which is the common case, are the host's.
_ON_HOST = {np.ndarray, int, float, bool, type(None)}


@dataclass(eq=False, slots=True)
class Implementation:
    """A function that computes a primitive, its `name`, and what it `supports`.

    `emulated`: whether an emulated device runs it, too. `default_when`: for which of the arguments
    that it supports it may be the default. `precision`: what it keeps of the factors of its
    products. `kernels`: those that it launches, None where it does not say. `origin`: the plug-in
    that it came with, empty for gpukit's own.
    """

    function: Callable[..., Any]
    kind: str
    name: str
    supports: Callable[..., bool] | None = None
    emulated: bool = True
    default_when: Callable[..., bool] | None = None
    precision: Precision = FULL
    kernels: tuple[Any, ...] | None = None
    origin: str = ""

    def takes(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether these arguments are within the declared limits."""
        return self.supports is None or bool(self.supports(*args, **kwargs))

    def __repr__(self) -> str:
        return f"Implementation({self.kind}:{self.name})"


class Primitive:
    """A named operation on arrays, called like its definition; `algo=` chooses an implementation.

    Implementations are loaded, and looked for where one is missing, by `registry`. `declaration`
    says what checks and races need to know.
    """

    def __init__(
        self,
        reference: Callable[..., Any],
        registry: Registry[Primitive] = default,
        declaration: Declaration | None = None,
    ) -> None:
        self.registry = registry
        self._loaded = registry.loaded
        self.name = reference.__name__
        self.declaration = declaration
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
        kernels: Sequence[Any] | None = None,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register an implementation for devices of `kind`; the first registered is the default.

        `supports` is called with the same arguments and says whether they are within the limits.
        `default_when`, called like it, says where the implementation may be the default; else only
        `algo` chooses it. With `emulated` False, "cuda" means real cards only, not emu.
        `precision` is "full", or "tf32", "fp16" or "bf16" for one that rounds the factors of its
        products. `kernels` are those that it launches; where a plug-in does not say, checks read
        them from its code. The parameters must be those of the definition, by name, order and kind.
        """
        rounds_to = by_name(precision)

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            if _parameters(function) != _parameters(self.reference):
                raise TypeError(
                    f"{kind}:{name} of {self.name} has parameters {inspect.signature(function)}, "
                    f"the definition {self.signature}"
                )
            origin = "" if _is_ours(function) else self.registry.origin
            if not _is_ours(function):
                self.registry.load(kind)  # so that the default stays one of gpukit's own
            known = self._by_kind.setdefault(kind, {})
            if name in known or name == REFERENCE:
                raise TypeError(f"{self.name} already has an implementation {kind}:{name}")
            known[name] = Implementation(
                function,
                kind,
                name,
                supports,
                emulated,
                default_when,
                rounds_to,
                None if kernels is None else tuple(kernels),
                origin,
            )
            if origin:
                self.registry.recorded.append((self, known[name]))
            return function

        return register

    def remove(self, implementation: Implementation) -> None:
        """Undo a registration."""
        known = self._by_kind.get(implementation.kind, {})
        if known.get(implementation.name) is implementation:
            del known[implementation.name]

    def implementations(self, kind: str) -> dict[str, Implementation]:
        """By name, what computes this on `kind`: in order of preference, the definition last."""
        self.registry.load(kind)
        return {**self._known(kind), REFERENCE: self._reference}

    def _known(self, kind: str) -> dict[str, Implementation]:
        backend = BACKENDS.get(kind, kind)
        known = self._by_kind.get(backend, {})
        if kind == backend:
            return known
        return {name: found for name, found in known.items() if found.emulated}

    def choose(
        self, device: Device, algo: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Implementation:
        """The implementation that a call with these arguments takes on `device`.

        That of `algo`, else the one preferred in this context, where it supports the arguments;
        else the default, which is said once. Raises SettingError for an `algo` that is not there.
        """
        asked = preferred(self.name) if algo is None else algo
        if asked is None:
            return self._default(device, args, kwargs)
        kind = device.kind
        if not isinstance(asked, str):
            raise SettingError(
                f"{self.name}: algo={show(asked)}: use the name of an implementation"
            )
        chosen = self.find(kind, asked)
        if chosen is None and algo is not None and not isinstance(algo, FromFile):
            raise SettingError(self.lacks(kind, algo))
        if chosen is not None and chosen.takes(args, kwargs):
            return chosen
        taken = self._default(device, args, kwargs)
        takes = f"{asked} does not take {shown(args, kwargs)}"
        fell_back(self.name, asked, kind, taken.name, takes if chosen else absent(asked))
        return taken

    def find(self, kind: str, name: str) -> Implementation | None:
        """The implementation `name` on `kind`; looked for among installed plug-ins, too, unless
        only a file gives the name."""
        if kind not in self._loaded:
            self.registry.load(kind)
        if name == REFERENCE:
            return self._reference
        found = self._known(kind).get(name)
        if found is not None or isinstance(name, FromFile):
            return found
        if name not in self._known(BACKENDS.get(kind, kind)):
            for search in self.registry.searches:
                search(name)
        return self._known(kind).get(name)

    def _default(self, device: Device, args: tuple[Any, ...], kwargs: Any) -> Implementation:
        if device.kind not in self._loaded:
            self.registry.load(device.kind)
        for found in self._by_kind.get(device.backend, {}).values():
            if (
                (found.emulated or device.kind == device.backend)
                and (found.supports is None or found.supports(*args, **kwargs))
                and (found.default_when is None or found.default_when(*args, **kwargs))
            ):
                return found
        return self._reference

    def lacks(self, kind: str, algo: str) -> str:
        """That there is no such implementation on `kind`, and which there are."""
        names = ", ".join([*self._known(kind), REFERENCE])
        real = BACKENDS.get(kind, kind)
        only = " (it needs a real card)" if algo in self._by_kind.get(real, {}) else ""
        if not only:
            others = [k for k, known in self._by_kind.items() if algo in known]
            only = f" (it is one for {', '.join(others)})" if others else ""
        return f"{self.name} has no algo {algo!r} on {kind}{only}; use {names}"

    def __call__(self, *args: Any, algo: str | None = None, **kwargs: Any) -> Any:
        for a in args:
            if type(a) not in _ON_HOST:
                break
        else:  # CPU.run, without the time of another call
            result = self.choose(CPU, algo, args, kwargs).function(*args, **kwargs)
            return np.asarray(result) if isinstance(result, np.generic) else result
        device = _device_of_arguments(args)
        args = device.operands(args)
        return device.run(self.choose(device, algo, args, kwargs).function, args, kwargs)


registry: Registry[Primitive] = default


@overload
def primitive(given: Declaration) -> Callable[[Callable[..., Any]], Primitive]: ...
@overload
def primitive(given: Callable[..., Any]) -> Primitive: ...
def primitive(given: Any) -> Any:
    """Define a primitive by its NumPy function and enter it into the registry.

    `@primitive`, or `@primitive(Declaration(…))` where kernels of it are to be checked and raced.
    """

    def enter(function: Callable[..., Any], declaration: Declaration | None = None) -> Primitive:
        if function.__name__ in registry:
            raise TypeError(f"two primitives are called {function.__name__}")
        made = registry[function.__name__] = Primitive(function, declaration=declaration)
        return made

    if isinstance(given, Declaration):
        return lambda function: enter(function, given)
    return enter(given)


def with_signature(primitive: Primitive, run: Callable[..., Any]) -> Callable[..., Any]:
    """`run(*arrays, **settings)` with the parameters of the definition, as `on` wants them."""
    return functools.update_wrapper(run, primitive.reference, assigned=())


def _is_ours(function: Callable[..., Any]) -> bool:
    return (getattr(function, "__module__", None) or "").startswith("gpukit.")


def _parameters(function: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def _device_of_arguments(args: tuple[Any, ...]) -> Device:
    arrays: list[Any] = []
    for a in args:
        if type(a) in homes:
            arrays.append(a)
        elif isinstance(a, (list, tuple)):
            arrays.extend(a)
        elif a is not None and not isinstance(a, (int, float, np.generic)):
            arrays.append(a)
    return device_of(*arrays)
