"""Time and ceilings of the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter  # this one: a plug-in may put another into its module
from typing import Any

import numpy as np

from gpukit.core import settings
from gpukit.device import Device
from gpukit.race.peaks import Ceilings
from gpukit.race.rivals import HostRival

Task = Callable[[], Any]
Before = Callable[[], None]

BATCH = 8  # images in a network's layers, where no number is given
_SIDE = 1536  # of the matrices
_RUNS = 9
_COPY = 4  # times the cache: an array of the copy
_LEAST_COPY, _MOST_COPY = 1 << 26, 1 << 28
_CACHED = range(16, 23)  # powers of two: bytes that one thread keeps in its caches
_CACHED_RUNS = 50
_CACHE = 32 << 20  # bytes, where the system does not say


class HostClock:
    """Runs a task twice and times the second run: others have used the caches in between."""

    def seconds(self, task: Task, before: Before = lambda: None) -> float:
        """Of one run, with warm caches; `before` each run other numbers may be put in place."""
        before()
        task()
        before()
        return _once(task)


def _once(task: Task) -> float:
    start = perf_counter()
    task()
    return perf_counter() - start


def _best(task: Task, runs: int = _RUNS) -> float:
    task()
    return min(_once(task) for _ in range(runs))


def measure(device: Device) -> Ceilings:
    """A float32 matrix product by gpukit's BLAS or NumPy's, and a copy by all threads."""
    from gpukit import primitives as p
    from gpukit.backends.cpu.runtime.threads import cuts, parallel_for

    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((_SIDE, _SIDE), dtype=np.float32) for _ in range(2))
    gflops = 2e-9 * _SIDE**3 / min(_best(lambda: p.matmul(a, b)), _best(lambda: np.matmul(a, b)))
    cache = cache_bytes()
    size = min(max(_COPY * cache, _LEAST_COPY), _MOST_COPY)
    source = rng.standard_normal(size // 4, dtype=np.float32)
    target = np.empty_like(source)
    parts = [slice(*cut) for cut in cuts(len(source), 4 * settings.threads())]

    def on_all(function: Callable[[slice], object]) -> float:
        return _best(lambda: parallel_for(len(parts), lambda i: function(parts[i])))

    copy = 2e-9 * size / on_all(lambda part: np.copyto(target[part], source[part]))
    read = 1e-9 * size / on_all(lambda part: source[part].max())
    fill = 1e-9 * size / on_all(lambda part: target[part].fill(1))
    return Ceilings(
        gflops=gflops,
        gbps=copy,
        most_gflops=gflops,
        most_gbps=max(copy, read, fill),
        cached_gbps=settings.threads() * _cached(source, target),
        cache=cache,
        how=(
            f"float32 product of {_SIDE}×{_SIDE} matrices, copy of {size >> 20} MiB, "
            f"{settings.threads()} threads"
        ),
    )


def _cached(source: np.ndarray, target: np.ndarray) -> float:
    """10⁹ bytes a second of one thread within its caches, the fastest of copy, read and fill."""
    found = 0.0
    for size in (1 << power for power in _CACHED):
        a, b = source[: size // 4], target[: size // 4]
        tasks: list[tuple[int, Task]] = [
            (2, lambda a=a, b=b: np.copyto(b, a)),  # type: ignore[misc]
            (1, lambda a=a: a.max()),  # type: ignore[misc]
            (1, lambda b=b: b.fill(1)),  # type: ignore[misc]
        ]
        for times, task in tasks:
            found = max(found, 1e-9 * times * size / _best(task, _CACHED_RUNS))
    return found


def cache_bytes(cpus: Path = Path("/sys/devices/system/cpu")) -> int:
    """All caches behind the first level together, by what Linux says; else 32 MiB."""
    found: dict[tuple[str, ...], int] = {}
    for folder in cpus.glob("cpu[0-9]*/cache/index*"):
        try:
            level, shared, size = (
                (folder / name).read_text().strip() for name in ("level", "shared_cpu_list", "size")
            )
        except OSError:
            continue
        if level != "1":
            found[level, shared] = _bytes(size)
    return sum(found.values()) or _CACHE


def _bytes(text: str) -> int:
    factor = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
    digits = text.rstrip("KMG")
    return int(digits) * factor if digits.isdigit() else 0


def clock(device: Device) -> HostClock:
    """The host's clock."""
    return HostClock()


def rival(device: Device, clock: HostClock, compiled: bool) -> HostRival:
    """PyTorch, which has a clock of its own."""
    return HostRival(compiled)


def machine(device: Device) -> dict[str, Any]:
    """What figures depend on: the CPU's model, threads, the BLAS."""
    from gpukit.backends.cpu.runtime import blas

    return {
        "machine": _name(),
        "threads": settings.threads(),
        "blas": f"{blas.version()} ({blas.core_type()})",
    }


def _name() -> str:
    import platform

    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
