"""The error of a training step that ran out of memory: what held it, and what would fit.

Measured, not predicted: steps on few samples are recomputed with every allocation counted.
"""

from __future__ import annotations

import gc
import os
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpukit.autograd.tape import watched_by
from gpukit.data.feed import Batch
from gpukit.errors import OutOfMemoryError
from gpukit.training.compiled import Compiled
from gpukit.training.step import Work, fixed, gradients

SAMPLES = (8, 24)  # of the two steps that are measured: their difference is that of 16 samples
SHARE = 0.85  # of the memory that is free: allocators round up, and other things take some
NAMED = 6  # layers at most, the largest


class _Held:
    """Bytes that outputs and saved arrays of each layer add to memory, seen as a watcher."""

    def __init__(self) -> None:
        self.bytes: dict[str, int] = {}
        self._before = tracemalloc.get_traced_memory()[0]

    def see(self, stage: str, place: int, what: str, array: Any) -> None:
        if stage == "forward":
            now = tracemalloc.get_traced_memory()[0]
            self.bytes[what] = self.bytes.get(what, 0) + now - self._before
            self._before = now


@dataclass(frozen=True)
class Needs:
    """Bytes that a step takes: `fixed`, and `a_sample` for each; of these, what `layers` hold."""

    fixed: float
    a_sample: float
    layers: dict[str, float]


def shortage(model: Compiled, work: Work, reason: str) -> OutOfMemoryError:
    """The error for a step on `work` that a MemoryError ended, and all of whose arrays are gone."""
    from gpukit.backends.cpu.runtime.memory import release

    gc.collect()
    release()
    count = len(work.batch.x)
    number = max(1, min(work.accumulate, count))
    state = model.training_state
    where = (
        f"{model.name}: memory ended in epoch {state.epoch + 1}, step {state.batch + 1}, on a "
        f"batch of {count}{f' in {number} parts' if number > 1 else ''}"
    )
    free = available()
    try:
        needs = measure(model, work.batch)
    except MemoryError:
        return OutOfMemoryError(
            f"{where}, and does not suffice for {min(SAMPLES[0], count)}; use smaller inputs, a "
            f"smaller network or a larger machine ({reason or 'MemoryError'})"
        )
    held = sorted(needs.layers.items(), key=lambda layer: -layer[1])
    samples = -(-count // number)  # of the largest micro-batch
    shown = [f"{name} {size(held_by * samples)}" for name, held_by in held[:NAMED]]
    if held[NAMED:]:
        rest = sum(held_by for _, held_by in held[NAMED:])
        shown.append(f"{len(held) - NAMED} others {size(rest * samples)}")
    takes = f"takes {size(needs.fixed + needs.a_sample * samples)} ({', '.join(shown)})"
    if free is None:
        return OutOfMemoryError(
            f"{where}: it {takes}; use smaller batches or a larger --accumulate"
        )
    fits = int((free * SHARE - needs.fixed) / max(needs.a_sample, 1))
    if fits < 1:
        way_out = "not even one sample fits: use smaller inputs or a smaller network"
    else:
        fits = min(fits, samples - 1) or 1
        way_out = (
            f"at most {fits} fit: use --batch-size {fits}, or --accumulate {-(-count // fits)} "
            "(accumulate= of fit) for the same gradient in parts"
        )
    return OutOfMemoryError(f"{where}: it {takes}, {size(free)} are free; {way_out}")


def measure(model: Compiled, batch: Batch) -> Needs:
    """What a step on samples like those of `batch` needs. Nothing is changed."""
    count = len(batch.x)
    few, more = (min(n, count) for n in SAMPLES)
    if few == more:
        few = max(1, more - 1)
    _peak(model, batch, more)  # what is made once and kept does not count
    least, low = _peak(model, batch, few)
    most, high = _peak(model, batch, more)
    samples = max(more - few, 1)
    a_sample = (most - least) / samples
    layers = {name: max(high[name] - low.get(name, 0), 0) / samples for name in high}
    # The feed makes a batch while the one before is still there.
    a_sample += 2 * batch.x.nbytes / max(count, 1)
    return Needs(max(least - a_sample * few, 0.0), a_sample, layers)


def _peak(model: Compiled, batch: Batch, count: int) -> tuple[int, dict[str, int]]:
    """(most bytes at a time, what layers hold) of a step on the first `count` samples."""
    shift, weight = batch.shift, batch.weight
    cut = Batch(
        batch.x[:count],
        batch.y[:count],
        None if shift is None else shift[:count],
        None if weight is None else weight[:count],
    )
    from gpukit.backends.cpu.runtime.memory import release

    release()
    tracing = tracemalloc.is_tracing()
    if not tracing:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        held = _Held()
        with fixed(model), watched_by(held):
            gradients(model, Work(cut), measure=False)
        return tracemalloc.get_traced_memory()[1] - before, held.bytes
    finally:
        if not tracing:
            tracemalloc.stop()
        model.zero_grad()
        model.context.sample = 0


def available() -> int | None:
    """Bytes that this process can still take: of address space, its control group, the machine.

    None where the system does not say.
    """
    found = []
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            found.append(limit - pages * os.sysconf("SC_PAGE_SIZE"))
    except (ImportError, OSError, ValueError):
        pass
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) << 10)
    except (OSError, ValueError):
        pass
    for limit_file, used_file in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        try:
            most = int(Path(limit_file).read_text())  # "max" where there is none
            found.append(most - int(Path(used_file).read_text()))
        except (OSError, ValueError):
            pass
    return max(min(found), 0) if found else None


def size(count: float) -> str:
    """1.2 GB, 340 MB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(count / 1e6, 0.1):.3g} MB"
