"""Writes down the names and signatures of the real CuPy: cupy/surface.json.

    python tests/standin/record.py            # with CuPy installed, which needs no card for this
    python tests/standin/record.py --check    # exit code 1 where the committed file says otherwise

The stand-in has no name and takes no argument that is not in this file.
"""

from __future__ import annotations

import argparse
import inspect
import json
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "cupy" / "surface.json"

MODULES = (
    "cupy",
    "cupy.lib.stride_tricks",
    "cupy.linalg",
    "cupy.random",
    "cupy.cuda",
    "cupy.cuda.compiler",
    "cupy.cuda.device",
    "cupy.cuda.driver",
    "cupy.cuda.nvrtc",
    "cupy.cuda.runtime",
)
CLASSES = (
    "cupy.ndarray",
    "cupy.RawKernel",
    "cupy.RawModule",
    "cupy.cuda.Device",
    "cupy.cuda.Event",
    "cupy.cuda.MemoryPointer",
    "cupy.cuda.MemoryPool",
    "cupy.cuda.PinnedMemoryPointer",
    "cupy.cuda.Stream",
    "cupy.cuda.compiler.CompileException",
    "cupy.cuda.driver.CUDADriverError",
    "cupy.cuda.runtime.CUDARuntimeError",
)
DUNDERS = ("__init__", "__call__", "__enter__", "__exit__")
# A module that loads only beside NVIDIA's library: its docstrings are read from its file.
CUBLAS = "cupy_backends.cuda.libs.cublas"
# What has a signature in Python, in Cython's docstring, or none that can be read.
UNKNOWN = "(*args, **kwargs)"

_CUBLAS = re.compile(rb"(?:[sd]gemm(?:StridedBatched)?|[gs]et(?:Math|Pointer)Mode)\([^\x00\n]*")
_DOCUMENTED = re.compile(r"^[\w.]*\((.*)\)(?:\s*->.*)?$", re.DOTALL)


def surface() -> dict[str, Any]:
    """Everything that is recorded, from the CuPy that `import cupy` gives."""
    import cupy

    names: dict[str, Any] = {}
    ufuncs: dict[str, Any] = {}
    for module in MODULES:
        members = pkgutil.resolve_name(module)
        for name in _public(members):
            value = getattr(members, name)
            if isinstance(value, cupy.ufunc):
                ufuncs[name] = {"nin": value.nin, "nout": value.nout, "types": value.types}
            elif inspect.ismodule(value) or name.startswith("_"):
                continue
            else:
                names[f"{module}.{name}"] = _described(value)
    for path in CLASSES:
        members = pkgutil.resolve_name(path)
        own = {name for base in members.__mro__[:-1] for name in vars(base)}
        for name in (*_public(members), *(d for d in DUNDERS if d in own)):
            names[f"{path}.{name}"] = _described(getattr(members, name), bound=True)
    names |= dict(_cublas())
    return {"cupy": cupy.__version__, "names": names, "ufuncs": ufuncs}


def _cublas() -> Iterator[tuple[str, str]]:
    import cupy_backends.cuda.libs as libraries

    (file,) = Path(libraries.__path__[0]).glob("cublas.*")
    for found in _CUBLAS.findall(file.read_bytes()):
        text = found.decode()
        yield f"{CUBLAS}.{text.partition('(')[0]}", str(_documented(text))


def _public(holder: Any) -> Iterator[str]:
    return (name for name in sorted(dir(holder)) if not name.startswith("_"))


def _described(value: Any, *, bound: bool = False) -> str | int | None:
    """A signature as text, without the `self` of a method; a whole number; None for the rest."""
    if not callable(value):
        return value if type(value) is int else None
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        signature = _documented(inspect.getdoc(value) or "")
    if signature is None:
        return UNKNOWN
    parameters = [*signature.parameters.values()]
    if bound and parameters and parameters[0].name in ("self", "cls"):
        del parameters[0]
    return str(inspect.Signature([_bare(p) for p in parameters]))


class _Other:
    """Any other default: known by nothing but its place."""

    def __repr__(self) -> str:
        return "..."


def _bare(p: inspect.Parameter) -> inspect.Parameter:
    simple = p.default is None or type(p.default) in (bool, int, float, str)
    default = p.default if simple or p.default is p.empty else _Other()
    return p.replace(annotation=p.empty, default=default)


def _documented(text: str) -> inspect.Signature | None:
    """Cython writes `get(self, stream=None, size_t size=0) -> type` first into a docstring."""
    match = _DOCUMENTED.match(text.partition("\n")[0])
    if match is None:
        return None
    texts = []
    for item in filter(None, (part.strip() for part in match[1].split(","))):
        head, equals, default = item.partition("=")
        texts.append(head.split()[-1] + (f"={_literal(default)}" if equals else ""))
    try:
        return inspect.signature(eval(f"lambda {', '.join(texts)}: None"))
    except SyntaxError:
        return None


def _literal(text: str) -> str:
    text = text.strip()
    return text if re.fullmatch(r"None|True|False|-?\d+(\.\d+)?|'[^']*'", text) else "..."


def written(content: dict[str, Any]) -> str:
    """The file's text: one name a line, so that a diff reads well."""
    parts = [f'{{\n"cupy": {json.dumps(content["cupy"])}']
    for section in ("names", "ufuncs"):
        rows = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(content[section].items())]
        parts.append(f'"{section}": {{\n' + ",\n".join(rows) + "\n}")
    return ",\n".join(parts) + "\n}\n"


def main() -> int:
    """Write the file, or compare with it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare only")
    options = parser.parse_args()
    # The stand-in lies beside this file, which Python puts on the path.
    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != FILE.parents[1]]
    found = surface()
    if not options.check:
        FILE.write_text(written(found), encoding="utf-8")
        return 0
    committed = json.loads(FILE.read_text(encoding="utf-8"))
    wrong = [
        f"{name}: installed {found[section].get(name)}, recorded {committed[section].get(name)}"
        for section in ("names", "ufuncs")
        for name in sorted({*found[section], *committed[section]})
        if found[section].get(name) != committed[section].get(name)
    ]
    print(f"CuPy {found['cupy']} is installed, {committed['cupy']} recorded")
    print(*wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
