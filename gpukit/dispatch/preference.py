"""Which implementations a context prefers, and who is told where one of them falls back.

with prefer({"conv2d": "mine"}):
    ...                            # what mine does not take, the default computes: told once
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, NamedTuple

from gpukit.core.blocks import within
from gpukit.errors import SettingError, printable

GRADIENTS = ("grad", "input_grad", "weight_grad")


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
        return {name: from_file(one) for name, one in algo.items()}
    return algo


class FallbackWarning(UserWarning):
    """An implementation that was asked for did not take a call, and the default computed it."""


def _warn(text: str) -> None:
    warnings.warn(text, FallbackWarning, stacklevel=4)


class Preference(NamedTuple):
    """What holds in a context: implementations by primitive, and how a fallback is treated."""

    choices: Mapping[str, str]
    tell: Callable[[str], None]
    said: set[tuple[str, str, str]]  # fallbacks told, by primitive, implementation and device
    strict: bool = False  # whether a fallback raises SettingError


_current: ContextVar[Preference] = ContextVar(
    "gpukit_preference",
    default=Preference({}, _warn, set()),  # noqa: B039
)


def preferred(primitive: str) -> str | None:
    """The implementation preferred for a primitive in this context."""
    choices = _current.get().choices
    return choices.get(primitive) if choices else None


def prefer(
    choices: Mapping[str, str], tell: Callable[[str], None] | None = None
) -> AbstractContextManager[None]:
    """Within the block, calls without `algo` take these implementations, by primitive.

    A primitive's choice holds for its gradients, too, unless they have their own. Each fallback is
    told once in each block: to `tell`, else to the enclosing block's, else as a FallbackWarning.
    The block holds for its own thread, and for those that get a copy of its context.
    """
    outer = _current.get()
    told = tell or outer.tell
    return within(_current, Preference(with_gradients(choices), told, set(), outer.strict))


def with_gradients(choices: Mapping[str, str]) -> dict[str, str]:
    """`choices`, and those of gradients that follow from them."""
    following = {f"{name}_{g}": algo for name, algo in choices.items() for g in GRADIENTS}
    return {**following, **choices}


def no_fallbacks() -> AbstractContextManager[None]:
    """Within the block, an implementation that does not take a call raises SettingError.

    For proofs and timings: what another implementation computes would stand under its name.
    """
    return within(_current, _current.get()._replace(strict=True))


def fell_back(primitive: str, algo: str, device: str, taken: str, why: str) -> None:
    """Tell, once a block, that `taken` computes a primitive for which `algo` was asked."""
    current = _current.get()
    if current.strict:
        raise SettingError(f"{primitive} on {device}: {why}")
    key = (primitive, algo, device)
    if key not in current.said:
        current.said.add(key)
        current.tell(printable(f"{primitive} on {device}: {why}; {taken} computes it"))


def shown(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Arguments of a call in one line: dtype and shape of arrays, settings as they are."""
    parts = [
        f"{a.dtype}{tuple(a.shape)}" if hasattr(a, "shape") else type(a).__name__ for a in args
    ]
    return ", ".join([*parts, *(f"{name}={value!r}" for name, value in kwargs.items())])
