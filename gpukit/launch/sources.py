"""CUDA C sources: finding a file, expanding its headers as text, reading its declarations.

`load("activation.cu")` gives one text without quoted includes: caches that key on the text then key
on everything, and `#line` directives keep errors at the right file and line. From that text come
the declarations of its kernels and the instances that are built (kernels/README.md has the rules).
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from gpukit.errors import GpukitError


def _folder() -> Path:
    """The installed package gpukit.kernels, else the folder beside gpukit in a checkout."""
    found = importlib.util.find_spec("gpukit.kernels")
    if found is not None and found.submodule_search_locations:
        return Path(next(iter(found.submodule_search_locations)))
    return Path(__file__).parents[2] / "kernels"


FOLDER = _folder()
TYPES = ("float", "double")  # what the letter T of an instance stands for

_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)".*$')
_STRUCT = re.compile(r"\bstruct\s+(\w+)\s*\{([^{}()]*)\}\s*;")
_INSTANCES = re.compile(r"//[ \t]*instances(?:[ \t]+sm_(\d+))?:[ \t]*(.+)$", re.MULTILINE)


@dataclass(frozen=True)
class TemplateParameter:
    """`typename T` or `int TILE`, with its default or None."""

    kind: str
    name: str
    default: str | None = None


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel: its pointee or scalar type, and what kind it is."""

    type: str
    name: str
    is_pointer: bool
    is_const: bool


@dataclass(frozen=True)
class Declaration:
    """What `__global__ void name(parameters)` says, and where.

    `bounds` is what its `__launch_bounds__(…)` holds, C++ that may name its template parameters;
    empty without.
    """

    name: str
    template: tuple[TemplateParameter, ...]
    parameters: tuple[Parameter, ...]
    file: str
    line: int
    bounds: str = ""

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Instance:
    """A kernel with its template arguments; `arch` is the oldest card it is meant for."""

    kernel: str
    arguments: tuple[str, ...]
    arch: int = 75

    @property
    def expression(self) -> str:
        """What C++ calls it: relu_forward<float>."""
        return f"{self.kernel}<{', '.join(self.arguments)}>" if self.arguments else self.kernel


class Source:
    """One `.cu` file with its headers expanded."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.text = text

    @cached_property
    def masked(self) -> str:
        """The text with comments and strings blanked, character for character."""
        return mask(self.text)

    @cached_property
    def masked_comments(self) -> str:
        """The text with comments blanked, strings as they are."""
        return mask(self.text, strings=False)

    @cached_property
    def kernels(self) -> dict[str, Declaration]:
        """The kernels declared, by name."""
        found: dict[str, Declaration] = {}
        for match in re.finditer(r"\b__global__\b", self.masked):
            declaration = self._declaration(match.start(), match.end())
            if declaration.name in found:
                raise GpukitError(f"{declaration.place}: a second kernel {declaration.name}")
            found[declaration.name] = declaration
        return found

    @cached_property
    def structs(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """(Type, name) of every member of each struct without functions, by the struct's name."""
        found = {}
        for name, inside in _STRUCT.findall(self.masked):
            members: list[tuple[str, str]] = []
            for statement in split(inside.replace(";", ",")):
                *kind, member = statement.split(" ")
                members.append((" ".join(kind) if kind else members[-1][0], member))
            found[name] = tuple(members)
        return found

    @cached_property
    def instances(self) -> list[Instance]:
        """Every kernel with the template arguments for which it is built and checked."""
        declared: dict[str, list[Instance]] = {}
        for arch, line in _INSTANCES.findall(self.text):
            for item in split(line):
                name, _, arguments = item.partition("<")
                name = name.strip()
                if name not in self.kernels:
                    raise GpukitError(f"{self.file}: 'instances: {item}' names no kernel in it")
                given = tuple(split(arguments.rstrip()[:-1])) if arguments else ()
                declared.setdefault(name, []).append(Instance(name, given, int(arch or 75)))
        result = []
        for kernel in self.kernels.values():
            given_ones = declared.get(kernel.name) or [_plain_instance(kernel)]
            for instance in given_ones:
                result.extend(_expand(kernel, instance))
        return list(dict.fromkeys(result))

    def place(self, offset: int) -> tuple[str, int]:
        """File and line of a character of the text."""
        file, line = self.file, 1
        for row in self.text[:offset].split("\n")[:-1]:
            if row.startswith("#line "):
                _, number, name = row.split(" ", 2)
                file, line = name.strip('"'), int(number)
            else:
                line += 1
        return file, line

    def _declaration(self, start: int, end: int) -> Declaration:
        file, line = self.place(start)
        after = re.compile(r"\s*(?:__launch_bounds__\s*\(|(\w+)\s*\()")
        position, bounds = end, ""
        while True:
            match = after.search(self.masked, position)
            if not match:
                raise GpukitError(f"{file}:{line}: __global__ without a function")
            close = _closing(self.masked, match.end() - 1)
            if match.group(1) and match.group(1) != "__launch_bounds__":
                break
            bounds = " ".join(self.masked[match.end() : close].split())
            position = close + 1
        inside = self.masked[match.end() : close]
        parameters = tuple(_parameter(p, f"{file}:{line}") for p in split(inside) if p != "void")
        template = self._template(start)
        return Declaration(match.group(1), template, parameters, file, line, bounds)

    def _template(self, start: int) -> tuple[TemplateParameter, ...]:
        before = self.masked[:start].rstrip()
        before = re.sub(r'(static|inline|extern\s+"\s*")\s*$', "", before).rstrip()
        if not before.endswith(">"):
            return ()
        depth, position = 0, len(before) - 1
        while position >= 0:
            depth += {">": 1, "<": -1}.get(before[position], 0)
            if depth == 0:
                break
            position -= 1
        if not re.search(r"\btemplate\s*$", before[:position]):
            return ()
        found = []
        for item in split(before[position + 1 : -1]):
            head, _, default = item.partition("=")
            kind, _, name = head.strip().rpartition(" ")
            found.append(TemplateParameter(kind.strip(), name, default.strip() or None))
        return tuple(found)


@lru_cache(maxsize=256)
def _load(path: str, stamp: tuple[tuple[str, int, int], ...]) -> Source:
    place = Path(path)
    lines: list[str] = []
    _append(place, lines, [], set())
    return Source(_label(place), "\n".join(lines) + "\n")


def load(file: str | Path) -> Source:
    """The source `file`: a name in gpukit.kernels, or a path; its headers expanded as text."""
    path = find(file)
    headers = {*FOLDER.rglob("*.cuh"), *path.parent.glob("*.cuh"), *path.parent.glob("*.h")}
    found = ((file, file.stat()) for file in [path, *sorted(headers)])
    return _load(str(path), tuple((str(f), s.st_mtime_ns, s.st_size) for f, s in found))


def find(file: str | Path) -> Path:
    """The path of `file`; GpukitError if there is none."""
    path = Path(file)
    if not path.is_absolute() and (FOLDER / path).is_file():
        return FOLDER / path
    if path.is_file():
        return path.resolve()
    raise GpukitError(f"no kernel source {str(file)!r}, neither as a path nor in {FOLDER}")


def _label(path: Path) -> str:
    """What messages call a file: gpukit's by its place in kernels/, others by their name."""
    return path.relative_to(FOLDER).as_posix() if path.is_relative_to(FOLDER) else path.name


def _append(path: Path, lines: list[str], open_files: list[Path], done: set[Path]) -> None:
    if path in open_files:
        raise GpukitError(f"{path.name} includes itself: {[p.name for p in open_files]}")
    done.add(path)
    label = _label(path)
    lines.append(f'#line 1 "{label}"')
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = _INCLUDE.match(line)
        if not match:
            lines.append("" if line.strip() == "#pragma once" else line)
            continue
        header = next((p for p in (path.parent / match[1], FOLDER / match[1]) if p.is_file()), None)
        if header is None:
            raise GpukitError(f"{label}:{number}: no file {match[1]!r} to include")
        if header not in done:  # every header counts once, as with #pragma once
            _append(header, lines, [*open_files, path], done)
            lines.append(f'#line {number + 1} "{label}"')
        else:
            lines.append("")


def mask(text: str, *, strings: bool = True) -> str:
    """`text` with comments (and the insides of strings) as spaces; newlines stay."""
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'', re.DOTALL)

    def blank(match: re.Match[str]) -> str:
        found = match[0]
        if found[0] in "\"'":
            if not strings:
                return found
            return found[0] + " " * (len(found) - 2) + found[0]
        return re.sub(r"[^\n]", " ", found)

    return pattern.sub(blank, text)


def split(text: str) -> list[str]:
    """`text` cut at its commas outside brackets, each part with single spaces."""
    parts, depth, start = [], 0, 0
    for position, letter in enumerate(text):
        depth += (letter in "([{<") - (letter in ")]}>")
        if letter == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    parts.append(text[start:])
    return [" ".join(p.split()) for p in parts if p.strip()]


def _closing(text: str, start: int) -> int:
    depth = 0
    for position in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if depth == 0:
            return position
    raise GpukitError("a bracket of a kernel's declaration is never closed")


def _parameter(text: str, place: str) -> Parameter:
    head, _, name = text.replace("__restrict__", " ").replace("*", " * ").rpartition(" ")
    words = [w for w in head.split() if w not in ("volatile", "__grid_constant__")]
    if not name.isidentifier() or not words or words.count("*") > 1:
        raise GpukitError(f"{place}: cannot read the parameter {text!r}; write TYPE name")
    star = words.index("*") if "*" in words else len(words)
    pointee = words[:star]
    is_const = "const" in pointee
    kind = " ".join(w for w in pointee if w != "const")
    return Parameter(kind, name, "*" in words, is_const)


def _plain_instance(kernel: Declaration) -> Instance:
    missing = [
        t.name for t in kernel.template if t.kind not in ("typename", "class") and not t.default
    ]
    if missing:
        raise GpukitError(
            f"{kernel.place}: {kernel.name} needs values for {', '.join(missing)}; write a line "
            f"'// instances: {kernel.name}<T, …>' in its file"
        )
    given = tuple("T" for t in kernel.template if t.kind in ("typename", "class"))
    return Instance(kernel.name, given)


def _expand(kernel: Declaration, instance: Instance) -> list[Instance]:
    if len(instance.arguments) > len(kernel.template):
        raise GpukitError(f"{kernel.place}: {instance.expression} has too many template arguments")
    found = []
    for kind in TYPES if "T" in instance.arguments else ("",):
        given = [kind if a == "T" else a for a in instance.arguments]
        for rest in kernel.template[len(given) :]:
            if rest.default is None:
                raise GpukitError(f"{kernel.place}: {instance.expression} lacks {rest.name}")
            given.append(rest.default)
        found.append(Instance(kernel.name, tuple(given), instance.arch))
    return found
