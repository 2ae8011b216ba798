"""Which names a new kernel cannot have: its files, its function and its C++ all go by the name."""

from __future__ import annotations

import ast
import keyword
import re
import sys
from collections.abc import Mapping
from importlib.machinery import PathFinder
from pathlib import Path

_CPP = """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t
    char16_t char32_t class co_await co_return co_yield compl concept const const_cast
    consteval constexpr constinit continue decltype default delete do double dynamic_cast
    else enum explicit export extern false float for friend goto if inline int long mutable
    namespace new noexcept not not_eq nullptr operator or or_eq private protected public
    register reinterpret_cast requires return short signed sizeof static static_assert
    static_cast struct switch template this thread_local throw true try typedef typeid
    typename typeof union unsigned using virtual void volatile wchar_t while xor xor_eq
"""
_FUNCTIONS = """
    abs acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh cospi div erf
    erfc erfcinv erfcx erfinv exp exp10 exp2 expm1 fabs fdim floor fma fmax fmin fmod frexp
    hypot ilogb isfinite isinf isnan isnormal j0 j1 jn labs ldexp lgamma llabs llrint
    llround log log10 log1p log2 logb lrint lround max min modf nan nearbyint nextafter norm
    normcdf pow powi remainder remquo rhypot rint round rsqrt saturate scalbn signbit sin
    sincos sinh sinpi sqrt tan tanh tgamma trunc y0 y1 yn
"""
_KNOWN = re.compile(
    r"(make_)?(u?(char|short|int|long|longlong)|float|double)[1-4]|dim3|(thread|block)Idx|"
    r"(block|grid)Dim|warpSize|std|u(char|short|int|long|longlong)|longlong|alloca|assert|free|main|"
    r"malloc|mem(cpy|move|set)|printf|signgam|std(err|in|out)|clock(64)?|\w+_t"
)


def unusable(name: str, texts: Mapping[str, str]) -> str:
    """Why `name` cannot be a kernel's, empty where it can; `texts` are its skeleton's, by file."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        return "use letters, digits and _, a letter first"
    if keyword.iskeyword(name):
        return "it is a word of Python"
    if name in _CPP.split():
        return "it is a word of C++"
    if {name, name.removesuffix("f")} & set(_FUNCTIONS.split()):
        return "it is a function of C"
    if _KNOWN.fullmatch(name):
        return "C++ or CUDA knows it"
    if re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
        return "capitals are for constants and macros"
    if name in sys.stdlib_module_names:
        return f"{name}.py would stand before Python's own module"
    if name == "gpukit" or _is_installed(name):
        return f"{name}.py would stand before the installed package"
    if any(name in _used(file, text) for file, text in texts.items()):
        return "its own files use that word"
    return ""


def _is_installed(name: str) -> bool:
    folders = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    return PathFinder.find_spec(name, folders) is not None


def _used(file: str, text: str) -> set[str]:
    """What functions of a text of CUDA C or Python take from outside themselves."""
    if file.endswith(".cu"):
        return set(re.findall(r"([A-Za-z_]\w*)\s*(?:\(|::)", re.sub(r"//[^\n]*", "", text)))
    module = ast.parse(text)
    outer = {
        alias.asname or alias.name
        for statement in module.body
        if isinstance(statement, (ast.Import, ast.ImportFrom))
        for alias in statement.names
    }
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            outer.add(node.func.id)
        elif isinstance(node, ast.FunctionDef):
            outer.add(node.name)
    return outer - {"NAME"}
