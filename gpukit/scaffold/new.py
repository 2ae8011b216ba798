"""Writes a new plug-in: a kernel that is right, its launcher, and its test.

The texts lie in skeletons/; in them words in capitals are replaced.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

import gpukit.primitives  # noqa: F401  (fills the registry)
from gpukit.dispatch.primitive import REFERENCE, Primitive, registry
from gpukit.errors import SettingError
from gpukit.scaffold.names import unusable
from gpukit.scaffold.start import words

FOLDER = Path(__file__).with_name("skeletons")


@dataclass(frozen=True)
class Skeleton:
    """The files that a primitive's plug-in is made of, and the C++ expression of its result."""

    family: str
    expression: str = ""


def _skeleton(primitive: Primitive) -> Skeleton | None:
    """The one that a primitive declares, or files of its own name."""
    declared = primitive.declaration
    if declared and declared.skeleton:
        return Skeleton(declared.skeleton, declared.expression)
    has_own = (FOLDER / f"{primitive.name}.cu").is_file()
    return Skeleton(primitive.name) if has_own else None


SKELETONS = {name: found for name, made in registry.items() if (found := _skeleton(made))}
START = Skeleton("start")  # of every other primitive: made from its signature


def write(name: str, primitive: str, folder: Path) -> list[Path]:
    """Write NAME.cu, NAME.py and test_NAME.py into `folder`; nothing is overwritten."""
    if primitive not in registry:
        close = difflib.get_close_matches(primitive, registry, n=3)
        known = ", ".join(close or registry)
        raise SettingError(f"there is no primitive {primitive!r}; there are {known}")
    found = registry[primitive].implementations("cuda")
    if name in found or name == REFERENCE:
        raise SettingError(f"{primitive} has an implementation {name} already; use another name")
    texts = _texts(name, primitive)
    if why := unusable(name, texts):
        raise SettingError(f"{name!r} cannot be the name of a kernel: {why}; choose another")
    taken = [file for file in texts if (folder / file).exists()]
    if taken:
        raise SettingError(f"{folder / taken[0]} is there already; choose another NAME or --out")
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in texts.items():
        (folder / file).write_text(text.replace("NAME", name), encoding="utf-8")
    return [folder / file for file in texts]


def _texts(name: str, primitive: str) -> dict[str, str]:
    """The files' texts, by their names; NAME is still to be replaced in them."""
    skeleton = SKELETONS.get(primitive, START)
    replaced = {"PRIMITIVE": primitive, "EXPRESSION": skeleton.expression}
    if skeleton is START:
        replaced |= words(registry[primitive])
    templates = {
        f"{name}.cu": f"{skeleton.family}.cu",
        f"{name}.py": f"{skeleton.family}.py.txt",
        f"test_{name}.py": "check.py.txt",
    }
    texts = {}
    for file, template in templates.items():
        text = (FOLDER / template).read_text(encoding="utf-8")
        for word, by in replaced.items():
            text = text.replace(word, by)
        texts[file] = text
    return texts
