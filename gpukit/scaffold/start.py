"""What a primitive's signature says about the start of its plug-in (skeletons/start.py.txt)."""

from __future__ import annotations

import textwrap
from inspect import Parameter, Signature

from gpukit.dispatch.primitive import Primitive

WIDTH = 72  # of a list of arguments, beyond which it has lines of its own


def words(primitive: Primitive) -> dict[str, str]:
    """PARAMETERS, COVERED and BODY of a launcher for `primitive`."""
    bare = [p.replace(annotation=Parameter.empty) for p in primitive.signature.parameters.values()]
    arrays = [p.name for p in bare if p.kind != p.KEYWORD_ONLY]
    settings = [f"{p.name}={p.name}" for p in bare if p.kind == p.KEYWORD_ONLY]
    first = arrays[0]
    many = "Sequence" in str(primitive.signature.parameters[first].annotation)
    return {
        "PARAMETERS": _wrapped(str(Signature(bare))[1:-1]),
        "COVERED": (
            f"all(a.dtype in DTYPES for a in {first})" if many else f"{first}.dtype in DTYPES"
        ),
        "BODY": textwrap.indent(_body(primitive, arrays, settings), "    "),
    }


def _body(primitive: Primitive, arrays: list[str], settings: list[str]) -> str:
    gives = str(primitive.signature.return_annotation)
    chosen = [*settings, 'algo="reference"']
    if gives == "None":  # it works in place on all but the last, the gradient
        call = _wrapped(", ".join(["*news", arrays[-1], *chosen]))
        return (
            f"olds = ({', '.join(arrays[:-1])})\n"
            "news = [old if old is None else copy(old, empty_like(old)) for old in olds]\n"
            f"p.{primitive.name}({call})\n"
            "for new, old in zip(news, olds):\n"
            "    if old is not None:\n"
            "        copy(new, old)"
        )
    call = f"p.{primitive.name}({_wrapped(', '.join([*arrays, *chosen]))})"
    if gives.startswith("tuple"):
        return (
            f"found = {call}\n"
            "return tuple(y if y is None else copy(y, empty_like(y)) for y in found)"
        )
    return f"found = {call}\nreturn copy(found, empty_like(found))"


def _wrapped(arguments: str) -> str:
    """Arguments in their brackets, on lines of their own where they are many."""
    if len(arguments) <= WIDTH:
        return arguments
    lines = textwrap.wrap(arguments, 90, initial_indent="    ", subsequent_indent="    ")
    return "\n" + "\n".join(lines) + ",\n"
