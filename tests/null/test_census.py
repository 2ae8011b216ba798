"""The census counts right; no imports go in circles; a family has one stem in every room."""

from __future__ import annotations

import json

import census
import pytest
from sources import CHECKOUT

FAMILIES = {
    *("conv", "pool", "activation", "normalisation", "linear", "loss", "elementwise", "reduction"),
    *("shape", "random", "update", "image", "fused"),
}

# What lies beside the families in each room that files them, and is not one of them.
MACHINERY = {
    "kernels": {"typed"},  # and headers (.cuh), which several families include
    "gpukit/primitives": {"accumulate", "calls", "geometry", "windows"},
    "gpukit/backends/cpu": {"runtime"},
    "gpukit/backends/cuda": {"runtime"},
    "gpukit/ops": {"device", "epilogue", "passes", "windows"},
    "tests/backend": {"conventions", "every_primitive", "subnormals", "torch_oracle"},
}

# Families that a room has nothing of: NumPy's definition runs, or users have no such function.
WITHOUT = {"gpukit/backends/cpu": {"shape"}, "gpukit/ops": {"image", "update"}}


@pytest.fixture(scope="module")
def checkout() -> census.Checkout:
    return census.Checkout(CHECKOUT)


def test_no_imports_go_in_circles(checkout):
    """Imports for type checkers and inside functions count."""
    modules = census.module_graph(checkout)
    assert census.circles(census.room_graph(modules)) == census.circles(modules) == []


@pytest.mark.parametrize("room", MACHINERY)
def test_a_family_has_one_stem_in_every_room(room):
    here = {
        path.stem.removeprefix("test_")
        for path in (CHECKOUT / room).iterdir()
        if (path.suffix in (".py", ".cu") and (room != "tests/backend" or "test_" in path.name))
        or (path.is_dir() and any(path.glob("*.*")))
    } - {"__init__"}
    assert here - MACHINERY[room] == FAMILIES - WITHOUT.get(room, set())


def test_circles_are_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"d"}}
    assert census.circles(graph) == [["a", "b", "c"]]


FILES = {
    "gpukit/__init__.py": "",
    "gpukit/errors.py": "class GpukitError(Exception):\n    pass\n",
    "gpukit/primitives/__init__.py": "from gpukit.primitives.activation import softplus\n",
    "gpukit/primitives/activation.py": "@primitive\ndef softplus(x):\n    return x\n",
    "gpukit/a.py": "if TYPE_CHECKING:\n    from gpukit.b import f\n",
    "gpukit/b.py": "def f():\n    from gpukit import a\n    log.softplus()\n",
    "kernels/activation.cu": "struct Softplus { };  // ReLU\n__device__ float f(float x) { }\n",
    "tests/backend/test_activation.py": "NAMES = ['softplus_grad']\n",
}


def test_a_small_checkout_is_counted(tmp_path, capsys):
    long = "".join(f"x{i} = {i}  # that\n\n" for i in range(12))
    for name, text in (FILES | {"bench/one.py": long, "bench/two.py": f"import a\n{long}"}).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    census.main([str(tmp_path), "--json"])
    counted = json.loads(capsys.readouterr().out)
    assert counted["rooms"]["kernels"] == {"lines": 2, "files": 1, "functions": 1}
    assert counted["rooms"]["all"]["files"] == len(FILES) + 2
    assert (
        counted["circles_of_rooms"] == counted["circles_of_modules"] == [["gpukit.a", "gpukit.b"]]
    )
    assert counted["softplus"] == {
        "package": [
            "gpukit/primitives/__init__.py",
            "gpukit/primitives/activation.py",
            "kernels/activation.cu",
        ],
        "tests": ["tests/backend/test_activation.py"],
    }
    assert counted["repeated"] == [[12, "bench/one.py:1", "bench/two.py:2"]]
    census.main([str(tmp_path)])
    assert "softplus 3" in capsys.readouterr().out
