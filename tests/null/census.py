"""Counts a checkout: `python -m tests.null.census [ROOT] [--json]`.

Reports lines, files and functions by room, import circles (imports for type checkers and inside
functions count), how many files name each elementwise primitive, and pairs of files that share nine
lines or more. ROOT is the checkout to count, by default the one that holds this file; older
layouts count too. Needs nothing but Python, and imports nothing of what it counts.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import re
import statistics
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
SUFFIXES = {".py", ".cu", ".cuh", ".h", ".cpp"}
FOLDERS = ("gpukit", "kernels", "bench", "tests")
SHARED = 9  # a shorter stretch of equal lines is not counted
CUDA_FUNCTION = re.compile(
    r"^\s*(?:template\s*<.*>\s*)?(?:static\s+)?__(?:global|device)__ .*\(", re.MULTILINE
)
ELEMENTWISE = ("activation", "elementwise")  # families whose primitives map numbers to numbers


class Checkout:
    """The sources under `root`: text and, of Python files, syntax trees, by path from `root`."""

    def __init__(self, root: Path) -> None:
        self.text: dict[Path, str] = {}
        for folder in FOLDERS:
            for path in sorted((root / folder).rglob("*")):
                if path.suffix in SUFFIXES and path.is_file():
                    self.text[path.relative_to(root)] = path.read_text(encoding="utf-8")
        self.trees = {p: ast.parse(t, str(p)) for p, t in self.text.items() if p.suffix == ".py"}
        self.package = {p: dotted(p) for p in self.trees if p.parts[0] in ("gpukit", "kernels")}

    def code(self) -> list[Path]:
        """All but the tests' cases: package, kernels, benchmarks, and what tests share."""
        return [p for p in self.text if not (p.parts[0] == "tests" and p.name.startswith("test_"))]


def dotted(path: Path) -> str:
    """A module's name; kernels/ is installed as gpukit.kernels."""
    parts = path.with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(parts if parts[0] == "gpukit" else ("gpukit", *parts))


def room(path: Path) -> str:
    """gpukit/ops for a file in it, gpukit/errors for gpukit/errors.py; tests by folder too."""
    if path.parts[0] in ("kernels", "bench"):
        return path.parts[0]
    inside = path.parts[1] if len(path.parts) > 2 or path.parts[0] == "gpukit" else ""
    return f"{path.parts[0]}/{inside.removesuffix('.py')}".rstrip("/")


# ---- size


def functions(checkout: Checkout, path: Path) -> int:
    if path in checkout.trees:
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
        return sum(isinstance(node, kinds) for node in ast.walk(checkout.trees[path]))
    return len(CUDA_FUNCTION.findall(checkout.text[path]))


def sizes(checkout: Checkout) -> dict[str, dict[str, int]]:
    """Lines, files and functions of each room."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for path, text in checkout.text.items():
        lines, count = text.count("\n"), functions(checkout, path)
        table[room(path)].update(lines=lines, files=1, functions=count)
    return {name: dict(table[name]) for name in sorted(table)}


# ---- circles


def imported(tree: ast.AST) -> Iterator[str]:
    """Every dotted name that is imported anywhere in `tree`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_graph(checkout: Checkout) -> dict[str, set[str]]:
    """Which modules of the package import which; a name counts for the module that holds it."""
    known = set(checkout.package.values())
    graph: dict[str, set[str]] = {name: set() for name in known}
    for path, name in checkout.package.items():
        for target in imported(checkout.trees[path]):
            while target not in known and "." in target:
                target = target.rpartition(".")[0]
            if target in known - {name, "gpukit"}:
                graph[name].add(target)
    return graph


def room_graph(modules: dict[str, set[str]]) -> dict[str, set[str]]:
    graph: dict[str, set[str]] = defaultdict(set)
    for name, targets in modules.items():
        here = ".".join(name.split(".")[:2])
        graph[here] |= {".".join(target.split(".")[:2]) for target in targets} - {here}
    return dict(graph)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Sets of nodes that reach one another."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        open_ = [start]
        while open_:
            for target in graph[open_.pop()] - seen:
                seen.add(target)
                open_.append(target)
        return seen

    reach = {node: reached(node) for node in graph}
    found = {frozenset(n for n in reach[node] if node in reach[n]) for node in graph}
    return sorted(sorted(group) for group in found if group)


# ---- who names a primitive


def elementwise_primitives(checkout: Checkout) -> list[str]:
    """Those that a file of the families defines, gradients left out."""
    names = set()
    for path, tree in checkout.trees.items():
        defines = {"reference", "primitives"} & set(path.parts)
        if defines and ELEMENTWISE_FILE.search(path.as_posix()):
            names |= {f.name for f in tree.body if isinstance(f, ast.FunctionDef) and _primitive(f)}
    return sorted(name for name in names if not name.endswith("_grad"))


ELEMENTWISE_FILE = re.compile(rf"/(?:{'|'.join(ELEMENTWISE)})(?:/\w+)?\.py$")


def _primitive(function: ast.FunctionDef) -> bool:
    def name(node: ast.expr) -> str:
        return name(node.func) if isinstance(node, ast.Call) else getattr(node, "id", "")

    return any(name(d) in ("primitive", "elementwise") for d in function.decorator_list)


def naming(checkout: Checkout, primitives: Iterable[str]) -> dict[str, list[str]]:
    """The files that name each primitive or its gradient, in code: as a function of gpukit's, as a
    string, or in CUDA C in camel case. Prose, `np.exp`, a variable `log` and these two files of
    the census do not count."""
    wanted = set(primitives)
    found: dict[str, list[str]] = {name: [] for name in wanted}
    for path in checkout.text:
        if path.name in ("census.py", "test_census.py"):
            continue
        if path in checkout.trees:
            said = {name.removesuffix("_grad") for name in python_names(checkout.trees[path])}
        else:
            code = re.sub(r"//.*", "", checkout.text[path])
            said = {snake(word.removesuffix("Grad")) for word in re.findall(r"\b[A-Z]\w+", code)}
        for name in said & wanted:
            found[name].append(path.as_posix())
    return found


def snake(camel: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", camel).lower()


def python_names(tree: ast.Module) -> Iterator[str]:
    ours = set()  # names that imports from gpukit bind here
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gpukit"):
            ours |= {alias.asname or alias.name for alias in node.names}
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            ours |= {(a.asname or a.name).split(".")[0] for a in node.names if "gpukit" in a.name}
    yield from (node.name for node in tree.body if isinstance(node, ast.FunctionDef))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.Attribute):
            base: ast.expr = node.value
            while isinstance(base, ast.Attribute):
                base = base.value
            if isinstance(base, ast.Name) and base.id in ours:
                yield node.attr


# ---- what is written twice


def bare_lines(checkout: Checkout, path: Path) -> list[tuple[int, str]]:
    """(number, line) without comments, docstrings, blank lines, imports and indentation."""
    text = checkout.text[path]
    if path.suffix != ".py":
        text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m[0].count("\n"), text, flags=re.DOTALL)
        lines = [re.sub(r"//.*", "", line).strip() for line in text.splitlines()]
        return [(i, s) for i, s in enumerate(lines, 1) if s and not s.startswith("#include")]
    lines, left = text.splitlines(), set()
    for node in ast.walk(checkout.trees[path]):
        prose = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if prose or isinstance(node, (ast.Import, ast.ImportFrom)):
            left |= set(range(node.lineno, node.end_lineno + 1))
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    bare = ((i, line.strip()) for i, line in enumerate(lines, 1) if i not in left)
    return [(i, line) for i, line in bare if line]


def repeated(checkout: Checkout) -> list[tuple[int, str, str]]:
    """(lines, place, place) of the longest stretch that two files share, or one file has twice, for
    each pair of files with stretches of SHARED lines or more; longest first."""
    bare = {path: bare_lines(checkout, path) for path in checkout.text}
    windows: dict[tuple[str, ...], list[tuple[Path, int]]] = defaultdict(list)
    for path, lines in bare.items():
        for i in range(len(lines) - SHARED + 1):
            windows[tuple(line for _, line in lines[i : i + SHARED])].append((path, i))
    starts: dict[tuple[Path, Path], dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for places in windows.values():
        for n, (a, i) in enumerate(places):
            for b, j in places[n + 1 :]:
                if a != b or j - i >= SHARED:
                    starts[a, b][j - i].append(i)
    found = []
    for (a, b), by_shift in starts.items():
        stretches = ((*run, shift) for shift, at in by_shift.items() for run in runs(sorted(at)))
        first, last, shift = max(stretches, key=lambda s: s[1] - s[0])
        places = f"{a}:{bare[a][first][0]}", f"{b}:{bare[b][first + shift][0]}"
        found.append((last - first + SHARED, *places))
    return sorted(found, key=lambda pair: (-pair[0], *pair[1:]))


def runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """(first, last) of each run of consecutive numbers."""
    first = last = numbers[0]
    for number in numbers[1:]:
        if number > last + 1:
            yield first, last
            first = number
        last = number
    yield first, last


# ---- the report


def census(root: Path) -> dict:
    checkout = Checkout(root)
    rooms = sizes(checkout)
    modules = module_graph(checkout)
    primitives = elementwise_primitives(checkout)
    named = naming(checkout, {*primitives, "softplus"})

    def split(name: str) -> dict[str, list[str]]:
        tests = [path for path in named[name] if path.startswith("tests/")]
        package = [p for p in named[name] if p.startswith(("gpukit/", "kernels/"))]
        return {"package": package, "tests": tests}

    return {
        "rooms": rooms | {"all": dict(sum(map(Counter, rooms.values()), Counter()))},
        "code_lines": sum(checkout.text[path].count("\n") for path in checkout.code()),
        "circles_of_rooms": circles(room_graph(modules)),
        "circles_of_modules": circles(modules),
        "softplus": split("softplus"),
        "files_naming": {name: len(split(name)["package"]) for name in primitives},
        "repeated": repeated(checkout),
    }


def report(counted: dict) -> Iterator[str]:
    yield f"{'room':24} {'lines':>7} {'files':>6} {'functions':>10}"
    for name, row in counted["rooms"].items():
        yield f"{name:24} {row['lines']:7,} {row['files']:6} {row['functions']:10,}"
    yield f"\ngpukit, kernels, bench and what tests share: {counted['code_lines']:,} lines"
    for kind in ("rooms", "modules"):
        found = counted[f"circles_of_{kind}"]
        yield f"import circles between {kind}: {len(found)}"
        yield from ("    " + " ".join(circle) for circle in found)
    for where in ("package", "tests"):
        yield f"files that name softplus, {where}: {len(counted['softplus'][where])}"
        yield from (f"    {path}" for path in counted["softplus"][where])
    counts = counted["files_naming"]
    if counts:
        median = statistics.median(counts.values())
        yield f"files of the package that name an elementwise primitive: median {median:g}"
        yield "    " + ", ".join(f"{name} {count}" for name, count in counts.items())
    yield f"pairs of files that share {SHARED} lines or more: {len(counted['repeated'])}"
    yield from (f"    {lines:3} {a}  {b}" for lines, a, b in counted["repeated"])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("root", nargs="?", type=Path, default=CHECKOUT)
    parser.add_argument("--json", action="store_true", help="one object")
    asked = parser.parse_args(arguments)
    counted = census(asked.root)
    print(json.dumps(counted) if asked.json else "\n".join(report(counted)))


if __name__ == "__main__":
    sys.exit(main())
