"""Verified facts of kernels on this machine: written by every check, read by `kernels list`.

A fact holds for the texts it was found with: of the kernel's files with their headers, of its
launcher, of the compiler's options. Another text, and it is no longer known; a check that finds
something wipes what was known of that kernel. One small entry a kernel, in the cache.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpukit.core.caches import Cache
from gpukit.launch.options import for_nvrtc
from gpukit.launch.sources import FOLDER, load
from gpukit.verify.coverage import Target

CACHE = Cache("facts")


@dataclass(frozen=True)
class Facts:
    """Architectures for which it was compiled; by mode, the most random cases that all held."""

    compiled: tuple[int, ...] = ()
    cases: dict[str, int] = field(default_factory=dict)


def known(target: Target) -> Facts:
    """What is known of `target` as it is now."""
    found = CACHE.read(str(target))
    if found is None:
        return Facts()
    content = json.loads(found)
    if content["text"] != _digest(target):
        return Facts()
    return Facts(tuple(content["compiled"]), dict(content["cases"]))


def remember(target: Target, facts: Facts) -> None:
    """Add `facts` to what is known of `target`."""
    before = known(target)
    cases = {
        mode: max(facts.cases.get(mode, 0), before.cases.get(mode, 0))
        for mode in (*before.cases, *facts.cases)
    }
    content = {
        "text": _digest(target),
        "compiled": sorted({*before.compiled, *facts.compiled}),
        "cases": cases,
    }
    CACHE.write(str(target), json.dumps(content).encode())


def forget(target: Target) -> None:
    """Nothing is known of `target` any more."""
    CACHE.drop(str(target))


def _digest(target: Target) -> str:
    launcher: Any = target.implementation.function
    texts = [Path(inspect.getfile(launcher)).read_text(encoding="utf-8"), *for_nvrtc(0, False)]
    for file in target.files:
        if target.emulated:
            texts.append(load(file).text)
        else:
            texts.append((FOLDER / file).read_text(encoding="utf-8"))
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
