"""Which primitive has which implementations, and which kernel files those launch."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import partial
from types import CodeType, FunctionType, ModuleType
from typing import Any

import gpukit.primitives
from gpukit.device import cuda_count
from gpukit.dispatch.primitive import REFERENCE, Implementation, Primitive, registry
from gpukit.errors import SettingError
from gpukit.launch.kernel import Kernel
from gpukit.launch.numba import NumbaKernel
from gpukit.plugins import Plugin, is_plugged

KINDS = ("cpu", "cuda")
LAUNCHERS = ("gpukit.backends.cuda",)


@dataclass(frozen=True)
class Target:
    """One implementation of a primitive on cards, called `conv2d:im2col`."""

    primitive: str
    algo: str

    def __str__(self) -> str:
        return f"{self.primitive}:{self.algo}"

    @property
    def implementation(self) -> Implementation:
        """The implementation itself."""
        return registry[self.primitive].implementations("cuda")[self.algo]

    @property
    def emulated(self) -> bool:
        """Whether emu runs it; the others are Numba's, for its simulator, or a library's."""
        return self.implementation.emulated

    @property
    def simulated(self) -> bool:
        """Whether Numba's simulator runs it; a library's products need a card."""
        if self.emulated:
            return False
        if any(isinstance(k, NumbaKernel) for k in self.kernels):
            return True
        return not _is_launcher(self._launcher.__module__)

    @property
    def runs_here(self) -> bool:
        """Whether something on this machine runs it: emu, Numba's simulator, or a card."""
        return self.emulated or self.simulated or cuda_count() > 0

    @property
    def files(self) -> tuple[str, ...]:
        """The files of its kernels."""
        return tuple(
            sorted({k.path if isinstance(k, NumbaKernel) else str(k.file) for k in self.kernels})
        )

    @property
    def kernels(self) -> list[Kernel | NumbaKernel]:
        """The kernels that it launches; of a plug-in that does not say, those in its code."""
        named = self.implementation.kernels
        return kernels_in(self._launcher) if named is None else list(named)

    @property
    def functions(self) -> list[FunctionType]:
        """Its launcher and the functions that this calls, of launchers' modules."""
        return [v for v in _reached_from(self._launcher) if isinstance(v, FunctionType)]

    @property
    def _launcher(self) -> Any:
        return self.implementation.function


def kernels_in(launcher: Any) -> list[Kernel | NumbaKernel]:
    """The kernels that the code of a launcher names, itself or through functions that it calls."""
    return [v for v in _reached_from(launcher) if isinstance(v, (Kernel, NumbaKernel))]


def _reached_from(launcher: Any) -> list[Any]:
    """Kernels and functions of launchers' modules that a launcher names, itself or by others."""
    found: list[Any] = []
    seen: set[int] = set()
    ahead: list[Any] = [launcher]
    while ahead:
        value = ahead.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, (Kernel, NumbaKernel)):
            found.append(value)
        elif isinstance(value, (tuple, list)):
            ahead += value
        elif isinstance(value, dict):
            ahead += value.values()
        elif isinstance(value, partial):
            ahead += [value.func, *value.args, *value.keywords.values()]
        elif isinstance(value, type) and _is_launcher(value.__module__):
            ahead += vars(value).values()
        elif isinstance(value, FunctionType) and _is_launcher(value.__module__):
            found.append(value)
            ahead += _names_in(value)
    return found


def _is_launcher(module: str) -> bool:
    return module.startswith(LAUNCHERS) or is_plugged(module)


def _names_in(function: FunctionType) -> list[Any]:
    """What a function's code mentions: globals, the functions' around it, its default arguments."""
    codes, values = [function.__code__], [c.cell_contents for c in function.__closure__ or ()]
    values += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    while codes:
        code = codes.pop()
        codes += [c for c in code.co_consts if isinstance(c, CodeType)]
        mentioned = [function.__globals__[n] for n in code.co_names if n in function.__globals__]
        modules = [m for m in mentioned if isinstance(m, ModuleType)]
        values += mentioned
        values += [getattr(m, n) for m in modules for n in code.co_names if hasattr(m, n)]
    return values


def primitives() -> dict[str, Primitive]:
    """All primitives by name, those of gpukit's definitions."""
    return {
        name: made
        for name, made in sorted(registry.items())
        if made.__module__.startswith(f"{gpukit.primitives.__name__}.")
    }


def implementations(name: str) -> dict[str, list[str]]:
    """By kind of device, the names of a primitive's implementations beside its definition."""
    found = primitives()[name]
    return {k: [w for w in found.implementations(k) if w != REFERENCE] for k in KINDS}


def targets(name: str | None = None) -> list[Target]:
    """What `name` means: "conv2d" all its kernels, "conv2d:direct" one; None everything."""
    if name is None:
        every = [Target(n, w) for n in primitives() for w in implementations(n)["cuda"]]
        return [t for t in every if t.runs_here]
    primitive, _, algo = name.partition(":")
    if primitive not in primitives():
        close = difflib.get_close_matches(primitive, primitives(), n=3)
        hint = f"did you mean {', '.join(close)}?" if close else "see gpukit kernels list"
        raise SettingError(f"no primitive is called {primitive!r}: {hint}")
    known = implementations(primitive)["cuda"]
    if not known:
        raise SettingError(
            f"{primitive} has no CUDA kernel, on cards its definition runs; see gpukit kernels list"
        )
    if algo and algo not in known:
        raise SettingError(f"{primitive} has no kernel {algo!r}; use {', '.join(known)}")
    found = [Target(primitive, w) for w in known if not algo or w == algo]
    if algo and not found[0].runs_here:
        raise SettingError(f"{name} is a library's, which only a card runs: nothing to check here")
    return [t for t in found if t.runs_here]


def emulated(plugin: Plugin) -> list[str]:
    """What is checked of a plug-in: its implementations for cards that emu can run."""
    found = (
        f"{p.name}:{w.name}" for p, w in plugin.implementations if w.kind == "cuda" and w.emulated
    )
    return list(dict.fromkeys(found))
