"""What the real CuPy has: names, signatures, ufuncs' types, as surface.json records them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("surface.json")
_RECORDED = json.loads(FILE.read_text(encoding="utf-8"))
VERSION: str = _RECORDED["cupy"]
NAMES: dict[str, str | int | None] = _RECORDED["names"]
UFUNCS: dict[str, dict[str, Any]] = _RECORDED["ufuncs"]


@cache
def signature(name: str) -> inspect.Signature:
    """The signature of the function or method `name`; TypeError if the real one is not called."""
    text = NAMES[name]
    if not isinstance(text, str):
        raise TypeError(f"CuPy's {name} is not callable")
    return inspect.signature(eval(f"lambda {text[1:-1]}: None"))


def bind(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> inspect.BoundArguments:
    """The arguments of a call as the real function takes them; TypeError if it would not."""
    try:
        return signature(name).bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{name}{NAMES[name]}: {error}") from None


def like(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a function, or a method, the real signature of `name`.

    Arguments that the function does not name itself must be what they are by default:
    NotImplementedError otherwise.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        own = [*inspect.signature(function).parameters.values()]
        bound = own[:1] if own[0].name == "self" else []
        real = signature(name)
        taken = {p.name for p in own}

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            this, rest = args[: len(bound)], args[len(bound) :]
            given = bind(name, rest, kwargs).arguments
            for argument in given.keys() - taken:
                if given[argument] != real.parameters[argument].default:
                    raise NotImplementedError(f"the stand-in's {name} takes no {argument}")
            return function(*this, **{n: v for n, v in given.items() if n in taken})

        call.__signature__ = real.replace(parameters=[*bound, *real.parameters.values()])  # type: ignore
        return call

    return decorate


def missing(name: str) -> AttributeError | NotImplementedError:
    """The error for a name that the stand-in does not have."""
    if name in NAMES or name.removeprefix("cupy.") in UFUNCS:
        return NotImplementedError(
            f"CuPy has {name}, its stand-in in tests/standin has not: add it there"
        )
    return AttributeError(f"CuPy {VERSION} has no {name}")
