"""Which implementations are preferred in a context, and where one that was asked for fell back.

with prefer({"conv2d": "mine"}):
    ...                            # what mine does not take, the default computes: said once
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from gpukit.errors import SettingError, printable

GRADIENTS = ("grad", "input_grad", "weight_grad")

_without: ContextVar[bool] = ContextVar("gpukit_without_fallbacks", default=False)
_preferred: ContextVar[Mapping[str, str]] = ContextVar("gpukit_preferred", default={})  # noqa: B039


class FromFile(str):
    """The name of an implementation that a checkpoint or a settings file gives.

    Only what someone names in a program or as an option is looked for in installed packages, whose
    code then runs. What is not there otherwise is left to the default, which is said.
    """


def absent(name: str) -> str:
    """That there is no implementation `name`, and what might bring it."""
    if isinstance(name, FromFile):
        return f"there is no {name} (if it is an installed package's, name it by --kernel {name})"
    return f"there is no {name}"


def from_file(algo: Any) -> Any:
    """An `algo` out of a file, its names marked as such."""
    if isinstance(algo, str):
        return FromFile(algo)
    if isinstance(algo, Mapping):
        return {name: from_file(way) for name, way in algo.items()}
    return algo


class FallbackWarning(UserWarning):
    """An implementation that was asked for did not take a call, and the default computed it."""


fallbacks: dict[tuple[str, str, str], str] = {}  # what was said, by primitive, name and device


def preferred(primitive: str) -> str | None:
    """The implementation preferred for a primitive in this context."""
    found = _preferred.get()
    return found.get(primitive) if found else None


@contextmanager
def prefer(choices: Mapping[str, str], tell: Callable[[str], None] | None = None) -> Iterator[None]:
    """Within the block, calls without `algo` take these implementations, by primitive.

    A primitive's choice holds for its gradients, too, unless they have their own. What falls back
    is said anew in each block: to `tell`, or as a FallbackWarning.
    """
    global _tell
    before, token = _tell, _preferred.set(with_gradients(choices))
    _tell = tell or before
    fallbacks.clear()
    try:
        yield
    finally:
        _tell = before
        _preferred.reset(token)


def with_gradients(choices: Mapping[str, str]) -> dict[str, str]:
    """`choices`, and those of gradients that follow from them."""
    following = {f"{name}_{g}": way for name, way in choices.items() for g in GRADIENTS}
    return {**following, **choices}


@contextmanager
def no_fallbacks() -> Iterator[None]:
    """Within the block, an implementation that does not take a call raises SettingError.

    For whoever proves or times it: what another computes would stand under its name.
    """
    token = _without.set(True)
    try:
        yield
    finally:
        _without.reset(token)


def fell_back(primitive: str, algo: str, device: str, taken: str, why: str) -> None:
    """Say, once a run, that `taken` computes a primitive for which `algo` was asked."""
    if _without.get():
        raise SettingError(f"{primitive} on {device}: {why}")
    key = (primitive, algo, device)
    if key not in fallbacks:
        fallbacks[key] = printable(f"{primitive} on {device}: {why}; {taken} computes it")
        _tell(fallbacks[key])


def shown(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Arguments of a call in one line: dtype and shape of arrays, settings as they are."""
    parts = [
        f"{a.dtype}{tuple(a.shape)}" if hasattr(a, "shape") else type(a).__name__ for a in args
    ]
    return ", ".join([*parts, *(f"{name}={value!r}" for name, value in kwargs.items())])


def _warn(text: str) -> None:
    warnings.warn(text, FallbackWarning, stacklevel=4)


_tell: Callable[[str], None] = _warn
