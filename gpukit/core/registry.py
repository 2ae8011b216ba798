"""Names of users' own classes and functions in files, and what a name in a file stands for.

A file holds names, never code. A name is looked up among what users registered
(`gpukit.layers.register` and its like) or gave to the call that loads (`custom_objects`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from gpukit.core.blocks import within
from gpukit.errors import CheckpointError, SettingError


class Unnamed(NamedTuple):
    """A class or function that files cannot name."""

    module: str  # of its family
    member: Any
    where: str  # what it was found as, for messages


_names: dict[Any, str] = {}  # of registered classes and functions
_functions: dict[tuple[str, str], Callable[..., Any]] = {}  # by family's module and name
_given: ContextVar[Mapping[str, Any] | None] = ContextVar("gpukit_custom_objects", default=None)
_found: ContextVar[dict[str, Unnamed] | None] = ContextVar("gpukit_unregistered", default=None)


def custom_objects(objects: Mapping[str, Any] | None) -> AbstractContextManager[None]:
    """Within the block, names in configurations stand for `objects` first: classes, functions."""
    for name, value in dict(objects or {}).items():
        if not isinstance(name, str) or not callable(value):
            raise SettingError(
                f"custom_objects[{name!r}] is a {type(value).__name__}; give a class or a function "
                "for each name"
            )
    return within(_given, {**(_given.get() or {}), **(objects or {})})


def given(name: str) -> Any:
    """What `custom_objects` has for `name`; None where it has nothing."""
    return (_given.get() or {}).get(name)


def enter(module: str, member: Any, name: str) -> None:
    """Enter a class or function of the family of `module` ("gpukit.losses") as `name`."""
    _names[member] = name
    if not isinstance(member, type):
        _functions[module, name] = member


def registered_function(module: str, name: str) -> Callable[..., Any] | None:
    """The function registered as `name` in the family of `module`, if there is one."""
    return _functions.get((module, name))


def function(module: str, name: Any) -> Callable[..., Any]:
    """The function that a configuration of the family of `module` names; CheckpointError."""
    found = None
    if isinstance(name, str):
        found = given(name) or registered_function(module, name)
    if found is None:
        raise CheckpointError(
            f"unknown function {name!r}: register it before loading "
            f"({module}.register({name})), or give custom_objects={{{name!r}: …}}"
        )
    return found


def name_of(member: Any, module: str, where: str = "") -> str:
    """The name of a class or function in a configuration.

    One that a file cannot name is called as in Python, and noted within `unregistered`.
    """
    try:
        name = _names.get(member)
    except TypeError:  # a callable object that has no hash
        name = None
    if name is None:
        name = getattr(member, "__name__", None) or type(member).__name__
        ours = isinstance(member, type) and member.__module__.startswith("gpukit.")
        found = _found.get()
        if found is not None and not ours:
            found[name] = Unnamed(module, member, where)
    return name


@contextmanager
def unregistered() -> Iterator[dict[str, Unnamed]]:
    """A block that notes what configurations name and files cannot, by name."""
    found: dict[str, Unnamed] = {}
    with within(_found, found):
        yield found


def refuse(model: str, found: Mapping[str, Unnamed]) -> None:
    """SettingError where `unregistered` noted anything."""
    for name, (module, member, where) in found.items():
        kind = "class" if isinstance(member, type) else "function"
        way_out = f"write @{module}.register before it"
        if name.startswith("<") or (kind == "function" and not hasattr(member, "__name__")):
            way_out = f"give it a name: {module}.register(function, name=…)"
        raise SettingError(
            f"{model} cannot be saved: {where}{': ' * bool(where)}a file cannot name the {kind} "
            f"{name!r}; {way_out}"
        )


def module_of(cls: type) -> str:
    """The module of gpukit in which users find the family of `cls`: "gpukit.layers"."""
    for base in cls.__mro__:
        if base.__module__.startswith("gpukit.") and base.__module__ != "gpukit.core.config":
            return ".".join(base.__module__.split(".")[:2])
    return "gpukit"
