"""Rejects launchers that select a CUDA stream.

What `Kernel.launch` launches goes to the caller's current stream. A launcher with a stream of its
own gives results that are not there yet, and arguments may not be there for it; where there is no
card to show this, its source must not speak of one.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gpukit.verify.coverage import Target

LIBRARIES = ("cupy", "cupyx", "cuda", "numba", "torch")
# As these libraries call streams, and what gives one that is not the current one.
NAMES = {"Stream", "ExternalStream", "stream", "external_stream", "default_stream",
         "legacy_default_stream", "per_thread_default_stream"}  # fmt: skip


@dataclass(frozen=True)
class Mention:
    """Where an expression names a stream; `owners`: first lines of the functions around it."""

    line: int
    owners: frozenset[int]
    text: str


def named(target: Target) -> str:
    """The first place where a target's launcher names a stream; empty if it does not.

    Its functions count, and what stands outside functions in their files.
    """
    for function in target.functions:
        file = function.__code__.co_filename
        if not Path(file).is_file():  # made at run time, as a dataclass's methods are
            continue
        for mention in mentions(file):
            if not mention.owners or function.__code__.co_firstlineno in mention.owners:
                return f"{Path(file).name}:{mention.line}: {mention.text}"
    return ""


@cache
def mentions(file: str) -> tuple[Mention, ...]:
    """Every mention of a stream in a Python file."""
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    modules, streams = _imported(tree)
    found = []

    def visit(node: ast.AST, owners: frozenset[int]) -> None:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            owners |= {min([node.lineno, *(d.lineno for d in node.decorator_list)])}
        is_stream = (
            (isinstance(node, ast.Attribute) and node.attr in NAMES and _root(node) in modules)
            or (isinstance(node, ast.Name) and node.id in streams)
            or (isinstance(node, ast.ImportFrom) and _brings_all(node))
        )
        if is_stream:
            line: int = node.lineno  # type: ignore[attr-defined]
            found.append(Mention(line, owners, ast.unparse(node)))
        for child in ast.iter_child_nodes(node):
            visit(child, owners)

    visit(tree, frozenset())
    return tuple(found)


def _brings_all(node: ast.ImportFrom) -> bool:
    library = (node.module or "").partition(".")[0]
    return not node.level and library in LIBRARIES and node.names[0].name == "*"


def _imported(tree: ast.AST) -> tuple[set[str], set[str]]:
    """Names that stand for the libraries' modules, and for their streams."""
    modules: set[str] = set()
    streams: set[str] = set()
    for node in ast.walk(tree):
        found: list[tuple[str, str, str]] = []  # name here, module, what of it
        if isinstance(node, ast.Import):
            found = [(a.asname or a.name.partition(".")[0], a.name, "") for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found = [(a.asname or a.name, node.module, a.name) for a in node.names]
        for name, source, attribute in found:
            if source.partition(".")[0] in LIBRARIES:
                (streams if attribute in NAMES else modules).add(name)
    return modules, streams


def _root(node: ast.Attribute) -> str:
    value: ast.expr = node
    while isinstance(value, ast.Attribute):
        value = value.value
    return value.id if isinstance(value, ast.Name) else ""
