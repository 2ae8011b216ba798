"""The launch log: which kernels were launched on emu, and the most shared memory each asked for."""

from __future__ import annotations

from gpukit.dispatch.primitive import registry
from gpukit.emulator.run import Emulator
from gpukit.launch.engine import Bound, Call
from gpukit.launch.kernel import Kernel
from gpukit.launch.limits import MOST_SHARED
from gpukit.verify.coverage import Target

_launched: set[tuple[str, str]] = set()  # files and names
# By file and name of a kernel, the launch with most: static and dynamic bytes.
_asked: dict[tuple[str, str], tuple[Bound, int, int]] = {}


class _LoggingEngine:
    """An engine that logs launches before the emulator runs them."""

    def __init__(self, engine: Emulator) -> None:
        self._engine = engine

    def launch(self, call: Call) -> None:
        key = (call.bound.source.file, call.bound.declaration.name)
        _launched.add(key)
        self._engine.launch(call)
        static = self._engine.static_shared[call.bound.source.file, call.bound.expression]
        if key not in _asked or static + call.shared > sum(_asked[key][1:]):
            _asked[key] = call.bound, static, call.shared


def start() -> None:
    """Log the launches on emu from now on."""
    engine = registry.engine("emu")
    if isinstance(engine, Emulator):
        registry.engines["emu"] = _LoggingEngine(engine)


def has_launched(target: Target) -> bool:
    """Whether a kernel that a target names was launched since `start` was called."""
    own = {(k.source.file, k.name) for k in target.kernels if isinstance(k, Kernel)}
    return bool(own & _launched)


def too_much_shared(target: Target) -> str:
    """Which kernel of a target asked for more shared memory than some card has."""
    if not _asked:
        return ""
    for kernel in target.kernels:
        if not isinstance(kernel, Kernel) or (kernel.source.file, kernel.name) not in _asked:
            continue
        bound, static, dynamic = _asked[kernel.source.file, kernel.name]
        least = max(kernel.min_arch, bound.instance.arch)
        small = {a: m for a, m in MOST_SHARED.items() if m < static + dynamic and a >= least}
        if small:
            cards = ", ".join(f"sm_{arch} has {most}" for arch, most in small.items())
            return (
                f"{bound.declaration.place}: kernel {bound.expression} takes {static} bytes of "
                f"static shared memory and is launched with shared={dynamic}; {cards}; use less, "
                "refuse the case in supports, or give the Kernel a min_arch"
            )
    return ""
