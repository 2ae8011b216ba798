"""What launches ask of a card that the emulator would give and a card might not: shared memory."""

from __future__ import annotations

from gpukit.backends.engine import Bound, Call, Engine, engine_of, register
from gpukit.backends.kernel import Kernel
from gpukit.device import get_device
from gpukit.kernel_checks.coverage import Target

# The most a block can have, by compute capability (CUDA C++ Programming Guide, "Technical
# Specifications per Compute Capability"), in bytes; more than 48 KB must be extern __shared__.
MOST_SHARED = {
    75: 64 << 10,
    80: 163 << 10,
    86: 99 << 10,
    89: 99 << 10,
    90: 227 << 10,
    100: 227 << 10,
    120: 99 << 10,
}

_launched: set[tuple[str, str]] = set()  # files and names
_asked: dict[str, tuple[Bound, int]] = {}  # by name of a kernel, the launch with most


class _Watched:
    """An engine that notes what launches ask for."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def launch(self, call: Call) -> None:
        name = call.bound.declaration.name
        _launched.add((call.bound.source.file, name))
        if call.shared > _asked.get(name, (call.bound, -1))[1]:
            _asked[name] = call.bound, call.shared
        self._engine.launch(call)


def launches() -> None:
    """Note the launches on emu from now on."""
    engine = engine_of(get_device("emu"))
    if not isinstance(engine, _Watched):
        register("emu", lambda: _Watched(engine))


def has_launched(target: Target) -> bool:
    """Whether a kernel that a target names was launched since `launches` was called."""
    own = {(k.source.file, k.name) for k in target.kernels if isinstance(k, Kernel)}
    return bool(own & _launched)


def too_much_shared(target: Target) -> str:
    """Which kernel of a target asked for more dynamic shared memory than some card has."""
    if not _asked:
        return ""
    for kernel in target.kernels:
        if isinstance(kernel, Kernel) and kernel.name in _asked:
            bound, size = _asked[kernel.name]
            small = {a: m for a, m in MOST_SHARED.items() if m < size and a >= kernel.min_arch}
            if small:
                cards = ", ".join(f"sm_{arch} has {most}" for arch, most in small.items())
                return (
                    f"{bound.declaration.place}: kernel {bound.expression} is launched with "
                    f"shared={size} bytes; {cards}; use less, refuse the case in supports, or give "
                    "the Kernel a min_arch"
                )
    return ""
