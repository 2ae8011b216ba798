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
        parameters = _documented(text)
        assert parameters, text
        yield f"{CUBLAS}.{text.partition('(')[0]}", f"({', '.join(parameters)})"


def _public(holder: Any) -> Iterator[str]:
    return (name for name in sorted(dir(holder)) if not name.startswith("_"))


def _described(value: Any, *, bound: bool = False) -> str | int | None:
    """A signature as text, without the `self` of a method; a whole number; None for the rest."""
    if not callable(value):
        return value if type(value) is int else None
    parameters = _parameters(value)
    if parameters is None:
        return UNKNOWN
    if bound and parameters and parameters[0] in ("self", "cls"):
        del parameters[0]
        if parameters[:1] == ["/"]:
            del parameters[0]
    return f"({', '.join(parameters)})"


def _parameters(value: Any) -> list[str] | None:
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return _documented(inspect.getdoc(value) or "")
    texts, kind_before = [], None
    for p in signature.parameters.values():
        if p.kind is p.KEYWORD_ONLY and kind_before not in (p.KEYWORD_ONLY, p.VAR_POSITIONAL):
            texts.append("*")
        if kind_before is p.POSITIONAL_ONLY and p.kind is not p.POSITIONAL_ONLY:
            texts.append("/")
        stars = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
        default = "" if p.default is p.empty else f"={_default(p.default)}"
        texts.append(f"{stars}{p.name}{default}")
        kind_before = p.kind
    if kind_before is inspect.Parameter.POSITIONAL_ONLY:
        texts.append("/")
    return texts


def _documented(text: str) -> list[str] | None:
    """Cython writes `get(self, stream=None, size_t size=0) -> type` first into a docstring."""
    match = _DOCUMENTED.match(text.partition("\n")[0])
    if match is None:
        return None
    texts = []
    for item in filter(None, (part.strip() for part in match[1].split(","))):
        head, equals, default = item.partition("=")
        name = head.split()[-1]
        if not name.strip("*/"):
            texts.append(name)
        elif not name.lstrip("*").isidentifier():
            return None
        else:
            texts.append(name + (f"={_literal(default)}" if equals else ""))
    return texts


def _default(value: Any) -> str:
    simple = value is None or type(value) in (bool, int, float, str)
    return repr(value) if simple else "..."


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
