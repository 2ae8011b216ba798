"""Imports go one way through the house, so that each room can be read without those below it.

HOUSE lists the rooms from the ground up. A module may import from its own room and from those
above it in the list, at its top or inside a function. There are no exceptions; imports that only
type checkers see count too. docs/design.md shows the list: tests/null/rooms.py writes it there.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from sources import Module, imports, modules

import gpukit

HOUSE = (
    "kernels",  # CUDA C and Numba CUDA sources, text
    "errors",
    "core",
    "utils",
    "data",
    "device",
    "dispatch",
    "primitives",
    "launch",
    "plugins",
    "emulator",
    "backends",
    "autograd",
    "ops",
    "testing",
    "initializers",
    "regularizers",
    "constraints",
    "schedules",
    "losses",
    "metrics",
    "optimizers",
    "layers",
    "graph",
    "callbacks",
    "training",
    "inspect",
    "model",
    "networks",
    "models",
    "runs",
    "static",
    "verify",
    "scaffold",
    "race",
    "cli",
    "__main__",
)

# Data sets know nothing of devices and networks, and can be used without them.
ONLY = {"data": {"errors", "core"}, "kernels": set()}

# Inside backends, from the ground up too: CPU code imports no launcher, the machinery no family.
BACKENDS = ("cpu.runtime", "cpu", "cuda.runtime", "cuda")

# What may open a room by its name at run time, which no list of imports shows: the package itself
# (gpukit.layers on first use, and what it tells the registry: a backend at its first call, plug-ins
# for an unknown name) and the launchers of Numba kernels (a file of kernels/ at its first launch).
BY_NAME = {"", "launch.numba"}

# Names of the package itself, which imports no room, that every room may use.
GROUND = {"gpukit.__version__", "gpukit._LOADERS", "gpukit._SEARCHES"}


def target_room(target: str) -> str:
    """The room of an imported "gpukit.…" name; names of the package itself count where they are."""
    name = target.split(".")[1] if "." in target else ""
    if name in gpukit._NAMES:
        name = gpukit._NAMES[name].split(".")[1]
    return name


def arrows(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """(imported gpukit name, line)."""
    for target, line in imports(tree):
        assert not target.startswith("."), f"line {line}: write {target} out, from gpukit on"
        if target.partition(".")[0] == "gpukit":
            yield target, line


def test_every_room_is_in_the_house():
    rooms = {module.room for module in modules()} - {""}
    assert rooms - set(HOUSE) == set(), "enter new rooms into HOUSE, below what they use"
    assert set(HOUSE) - rooms == set(), "rooms that are gone leave HOUSE too"


@pytest.mark.parametrize("room", HOUSE)
def test_a_room_imports_only_from_those_above(room):
    allowed = ONLY.get(room, set(HOUSE[: HOUSE.index(room)])) | {room}
    wrong = [
        f"{module.path}:{line} imports {target}"
        for module in modules()
        if module.room == room
        for target, line in arrows(module.tree)
        if target_room(target) not in allowed and target not in GROUND
    ]
    assert wrong == []


def test_the_package_itself_imports_no_room():
    """But for type checkers, whom it tells the names that open a room on first use."""
    (package,) = (m for m in modules() if m.name == "")
    run = [node for node in package.tree.body if not isinstance(node, ast.If)]
    assert [target for node in run for target, _ in arrows(ast.Module([node], []))] == []


def test_inside_backends_families_use_runtime_and_launchers_use_cpu():
    def place(name: str) -> int:
        """The index in BACKENDS of gpukit's module `name`; −1 outside of backends."""
        inside = name.removeprefix("backends.")
        found = [part for part in BACKENDS if f"{inside}.".startswith(f"{part}.")]
        return BACKENDS.index(max(found, key=len)) if found and inside != name else -1

    wrong = [
        f"{m.path}:{line} imports {target}"
        for m in modules()
        if m.name.startswith("backends.")
        for target, line in arrows(m.tree)
        if place(target.removeprefix("gpukit.")) > place(m.name)
    ]
    assert wrong == []


def test_rooms_are_opened_by_name_in_two_places():
    def opens(module: Module) -> bool:
        return any(
            (isinstance(node, ast.Attribute) and node.attr == "import_module")
            or (isinstance(node, ast.Name) and node.id in ("import_module", "__import__"))
            for node in ast.walk(module.tree)
        )

    assert {module.name for module in modules() if opens(module)} == BY_NAME


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from gpukit import cli", ["gpukit.cli"]),
        ("import gpukit.cli.app as a", ["gpukit.cli.app"]),
        ("def f():\n    if x:\n        from gpukit.cli import app", ["gpukit.cli.app"]),
        ("try:\n    import gpukit.cli\nexcept E:\n    pass", ["gpukit.cli"]),
        ("if TYPE_CHECKING:\n    from gpukit import cli", ["gpukit.cli"]),
        ("if TYPE_CHECKING:\n    pass\nelse:\n    from gpukit import cli", ["gpukit.cli"]),
        ("import numpy", []),
    ],
)
def test_arrows_are_seen_wherever_they_stand(source, found):
    assert [target for target, _ in arrows(ast.parse(source))] == found
