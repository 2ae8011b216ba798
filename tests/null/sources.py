"""The package's own source text, found where it is installed, and what its modules import."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import gpukit
import gpukit.kernels

PACKAGE = Path(gpukit.__file__).parent
KERNELS = Path(gpukit.kernels.__file__).parent  # in an editable install kernels/ of the checkout
CHECKOUT = Path(__file__).resolve().parents[2]


class Module(NamedTuple):
    """A module of gpukit: its dotted name without "gpukit.", its file and its syntax tree."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def room(self) -> str:
        """The first part of the name; "" for the package itself."""
        return self.name.partition(".")[0]


class Import(NamedTuple):
    """An imported module or name, dotted, and the line that imports it."""

    target: str
    line: int


@cache
def modules() -> list[Module]:
    """Every module of the installed package."""
    files = {path: path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")}
    files |= {path: "kernels" / path.relative_to(KERNELS) for path in KERNELS.rglob("*.py")}
    found = []
    for path, inside in sorted(files.items()):
        parts = inside.with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Module(name, path, ast.parse(path.read_text(encoding="utf-8"), str(path))))
    assert len(found) > 50, f"{PACKAGE} is not the whole package"
    return found


def imports(tree: ast.AST) -> Iterator[Import]:
    """What is imported anywhere in `tree`, in functions and for type checkers too.

    `from a import b` gives a.b, whether b is a module or a name in one.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                yield Import(f"{base}.{alias.name}", node.lineno)
