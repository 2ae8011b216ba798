"""Plug-ins: users' own kernels, loaded by path or found among installed packages.

A plug-in is a Python file that registers implementations of primitives, with its CUDA C beside it:

    mine = load_kernel("mine.py")          # then algo="mine", or whatever it registers

A package names its own under the entry-point group `gpukit.kernels`; such a module is imported when
one of its implementations is first asked for by the entry point's name, never before.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.metadata
import importlib.util
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from gpukit.core import settings
from gpukit.core.config import path as as_path
from gpukit.dispatch.primitive import Implementation, Primitive, registry
from gpukit.errors import GpukitError
from gpukit.launch.kernel import Kernel
from gpukit.launch.kernel import kernels as all_kernels

GROUP = "gpukit.kernels"
PREFIX = "gpukit_plugin_"  # of the names of modules loaded by path


class PluginError(GpukitError):
    """A plug-in that cannot be loaded: its file and line, and what is wrong there."""


@dataclass
class Plugin:
    """A loaded plug-in: its file, the digest of it and its kernels' sources, what it registered."""

    path: Path
    origin: str
    digest: str
    implementations: list[tuple[Primitive, Implementation]] = field(repr=False)
    kernels: list[Kernel] = field(repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Its implementations as `conv2d:mine`, each once."""
        found = (f"{primitive.name}:{impl.name}" for primitive, impl in self.implementations)
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class Entry:
    """A plug-in that an installed package offers: its name there, and what it would import."""

    name: str
    module: str
    package: str


class _Uncached(importlib.machinery.SourceFileLoader):
    """Reads the source each time: of a file edited twice in a second, a cache would be the old."""

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(self.get_data(self.path), self.path)


loaded: dict[Path, Plugin] = {}


def load_kernel(path: str | Path) -> Plugin:
    """Load the plug-in in the Python file `path`: what it registers can be chosen by `algo`.

    A file that is loaded already, and has not changed since, nor its CUDA C, is not loaded again.
    Raises PluginError, which names file and line, and leaves nothing of a plug-in that fails.
    """
    file = settings.expanded(as_path("path", path)).resolve()
    if not file.is_file():
        raise PluginError(f"no kernel {str(path)!r}: there is no such file; give a path to a .py")
    if file.suffix != ".py":
        raise PluginError(f"{path}: a plug-in is a Python file; give the .py beside it")
    known = loaded.get(file)
    if known is not None:
        if _digest(file, known.kernels) == known.digest:
            return known
        unload(known)
    name = PREFIX + file.stem + "_" + hashlib.sha256(str(file).encode()).hexdigest()[:8]

    def run() -> ModuleType:
        loader = _Uncached(name, str(file))
        spec = importlib.util.spec_from_file_location(name, file, loader=loader)
        assert spec is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
        return module

    return _load(file, str(file), run)


def load_any(name: str) -> list[Plugin]:
    """The plug-ins that `name` means: the path of a Python file, or an entry point's name."""
    if name.endswith(".py"):
        return [load_kernel(name)]
    found = load_named(name)
    if not found:
        known = ", ".join(e.name for e in entries()) or "none"
        raise PluginError(f"no installed package offers a kernel {name!r}; there are {known}")
    return found


def load_named(name: str) -> list[Plugin]:
    """Load the installed plug-ins called `name`, none if there is none."""
    return [_load_entry(e) for e in entries() if e.name == name]


@cache
def _load_entry(entry: Entry) -> Plugin:
    origin = f"{entry.package}, {entry.module}"
    point = importlib.metadata.EntryPoint(entry.name, entry.module, GROUP)
    spec = importlib.util.find_spec(point.module)
    if spec is None or spec.origin is None:
        raise PluginError(f"{origin}: there is no module {point.module}; mend or uninstall it")
    return _load(Path(spec.origin).resolve(), origin, point.load)


@cache
def entries() -> tuple[Entry, ...]:
    """What installed packages offer under `gpukit.kernels`, none of it imported."""
    found = []
    for point in importlib.metadata.entry_points(group=GROUP):
        package = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown package"
        found.append(Entry(point.name, point.value, package))
    return tuple(sorted(found, key=lambda e: (e.name, e.package)))


def unload(plugin: Plugin) -> None:
    """Take back what a plug-in registered."""
    for primitive, implementation in plugin.implementations:
        primitive.remove(implementation)
    _forget(plugin.kernels)
    loaded.pop(plugin.path, None)


def owner(implementation: Implementation) -> Plugin | None:
    """The plug-in that registered an implementation; None for gpukit's own."""
    for plugin in loaded.values():
        if any(impl is implementation for _, impl in plugin.implementations):
            return plugin
    return None


def is_plugged(module: str) -> bool:
    """Whether a module of this name is a plug-in, or the file of one that a package offers."""
    if module.startswith(PREFIX):
        return True
    brought = (impl for plugin in loaded.values() for _, impl in plugin.implementations)
    return any(impl.function.__module__ == module for impl in brought)


def _load(file: Path, origin: str, run: Callable[[], Any]) -> Plugin:
    before = list(all_kernels)
    with registry.recording(origin) as implementations:
        try:
            run()
            made = _made_in(file, before)
            plugin = Plugin(file, origin, "", implementations, made)
            if not implementations:
                raise PluginError(
                    f"{file}: it registers no implementation; write @conv2d.on('cuda', name=…)"
                )
            for kernel in made:
                _find(kernel)
            plugin.digest = _digest(file, made)
        except BaseException as error:
            for primitive, implementation in implementations:
                primitive.remove(implementation)
            _forget(_made_in(file, before))
            if isinstance(error, (Exception, SystemExit)) and not isinstance(error, PluginError):
                raise PluginError(_where(error, file)) from error
            raise
    loaded[file] = plugin
    return plugin


def _made_in(file: Path, before: list[Kernel]) -> list[Kernel]:
    return [k for k in all_kernels if k.made_at[0] == str(file) and k not in before]


def _find(kernel: Kernel) -> None:
    """Refuse a kernel whose file or name is not there."""
    try:
        kernel.declaration  # noqa: B018
    except GpukitError as error:
        file, line = kernel.made_at
        raise PluginError(f"{file}:{line}: {error}") from error


def _forget(kernels: list[Kernel]) -> None:
    all_kernels[:] = [k for k in all_kernels if k not in kernels]


def _digest(file: Path, kernels: list[Kernel]) -> str:
    """SHA-256 of a plug-in's Python and of its CUDA C with headers; empty where one is gone."""
    try:
        texts = [file.read_bytes(), *(k.source.text.encode() for k in kernels)]
    except (GpukitError, OSError):
        return ""
    return hashlib.sha256(b"\0".join(texts)).hexdigest()


def _where(error: BaseException, file: Path) -> str:
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f"{file}:{error.lineno}: {type(error).__name__}: {error.msg}"
    line = line_in(error, file)
    text = str(error) if isinstance(error, GpukitError) else f"{type(error).__name__}: {error}"
    if isinstance(error, ModuleNotFoundError) and (file.parent / f"{error.name}.py").is_file():
        text += (
            f"; {error.name}.py beside it is not looked for: install it, or make the folder a "
            f"package whose __init__.py is loaded and says from . import {error.name}"
        )
    return f"{file}:{line}: {text}" if line else f"{file}: {text}"


def line_in(error: BaseException, file: Path) -> int:
    """The line of `file` in which an error came up, the innermost; 0 where it was elsewhere."""
    lines = [
        frame.lineno or 0
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(file)
    ]
    return lines[-1] if lines else 0
