"""What was launched on emu in this process: the most shared memory that each kernel asked for."""

from __future__ import annotations

from gpukit.dispatch.primitive import registry
from gpukit.emulator.run import Emulator
from gpukit.launch.engine import Bound
from gpukit.launch.kernel import Kernel
from gpukit.launch.limits import MOST_SHARED
from gpukit.verify.coverage import Target


def _asked(target: Target) -> list[tuple[Kernel, Bound, int, int]]:
    """Kernels that a target names and that were launched; static and dynamic bytes at most."""
    engine = registry.engines.get("emu")
    asked = engine.asked if isinstance(engine, Emulator) else {}
    kernels = [k for k in target.kernels if isinstance(k, Kernel)] if asked else []
    launched = ((k, asked.get((k.source.file, k.name))) for k in kernels)
    return [(kernel, *found) for kernel, found in launched if found]


def has_launched(target: Target) -> bool:
    """Whether a kernel that a target names was launched."""
    return bool(_asked(target))


def too_much_shared(target: Target) -> str:
    """Which kernel of a target asked for more shared memory than some card has."""
    for kernel, bound, static, dynamic in _asked(target):
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
