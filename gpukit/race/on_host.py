"""Time and ceilings of the CPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gpukit import settings
from gpukit.race.ceilings import Ceilings

Task = Callable[[], Any]

_SIDE = 1536  # of the matrices
_RUNS = 9
_COPY = 4  # times the cache: an array of the copy
_LEAST_COPY, _MOST_COPY = 1 << 26, 1 << 28
_CACHE = 32 << 20  # bytes, where the system does not say


class HostClock:
    """Runs a task twice and times the second run: others have used the caches in between."""

    def seconds(self, task: Task) -> float:
        """Of one run, with warm caches."""
        task()
        return _once(task)


def _once(task: Task) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def _best(task: Task) -> float:
    task()
    return min(_once(task) for _ in range(_RUNS))


def measure() -> Ceilings:
    """A float32 matrix product by gpukit's BLAS or NumPy's, and a copy by all threads."""
    from gpukit.backends import reference as p
    from gpukit.backends.cpu.threads import cuts, parallel_for

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
        cache=cache,
        how=(
            f"float32 product of {_SIDE}×{_SIDE} matrices, copy of {size >> 20} MiB, "
            f"{settings.threads()} threads"
        ),
    )


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


def name() -> str:
    """The CPU's model name."""
    import platform

    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
