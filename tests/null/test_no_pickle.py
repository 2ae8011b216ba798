"""Nothing in the package turns a file into code: no unpickler, no eval, no hidden one either."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from sources import imports, modules

UNPICKLERS = {
    "_pickle",
    "cloudpickle",
    "copyreg",
    "dbm",
    "dill",
    "hickle",
    "joblib",
    "jsonpickle",
    "marshal",
    "numba.core.serialize",
    "pickle",
    "shelve",
}
# numpy.load can unpickle, torch.load does; safetensors' and gpukit's own have other owners.
LOADERS = {("np", "load"), ("numpy", "load"), ("torch", "load"), ("pandas", "read_pickle")}
EVALUATORS = {"__import__", "compile", "eval", "exec"}


def offences(tree: ast.AST) -> Iterator[str]:
    """What in this source could run code from a file."""
    for target, line in imports(tree):
        if {target, target.partition(".")[0]} & UNPICKLERS or target in (
            "numpy.load",
            "torch.load",
        ):
            yield f"line {line}: imports {target}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if (node.value.id, node.attr) in LOADERS:
                yield f"line {node.lineno}: {node.value.id}.{node.attr}"
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in EVALUATORS:
                yield f"line {node.lineno}: {node.func.id}()"
            for keyword in node.keywords:
                refused = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                if keyword.arg == "allow_pickle" and not refused:
                    yield f"line {node.lineno}: allow_pickle"


# Numba describes a compiled function by pickle: read from a cache whose digest was right.
ALLOWED = {"backends.cpu.runtime.jit": ["imports numba.core.serialize"]}


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.name or "gpukit")
def test_nothing_unpickles_or_evaluates(module):
    found = [text.partition(": ")[2] for text in offences(module.tree)]
    assert found == ALLOWED.get(module.name, []), module.path


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "def f():\n    from marshal import loads",
        "import joblib.numpy_pickle",
        "from numba.core import serialize",
        "np.load('a.npy')",
        "from numpy import load",
        "f.read(allow_pickle=True)",
        "f.read(allow_pickle=flag)",
        "eval('1')",
        "exec(text)",
        "torch.load(path)",
    ],
)
def test_offences_are_seen(source):
    assert list(offences(ast.parse(source)))


@pytest.mark.parametrize("source", ["model.compile('sgd')", "re.compile('a')", "model.load(path)"])
def test_ordinary_code_passes(source):
    assert not list(offences(ast.parse(source)))
