"""Counts memory accesses by source line, from a launch of the emulator's build "trace".

A request is one memory instruction of a warp. Global memory is moved in sectors of 32 bytes, shared
memory has 32 banks of 4 bytes: CUDA C++ Programming Guide, "Device Memory Accesses" and "Shared
Memory". Arrays are taken to begin at a multiple of 256 bytes, as freshly allocated ones do.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpukit.emulator.build import compiler

KINDS = ("", "load", "store", "atomic", "async copy")
HERE = str(Path(__file__).parent)
_MOST_FRAMES = 12


@dataclass(frozen=True)
class Access:
    """One place in a kernel, and all its requests to one array.

    `places` are "file:line", that of the access first, then those of the calls around it. `lanes`
    counts lanes that took part, over all requests. For global memory `moved` counts sectors and
    `least` the sectors that the same bytes fit into; for shared memory `moved` counts the cycles of
    the banks and `least` the transactions: one a request for up to 4 bytes a lane, two for 8, four
    for 16. `worst` is the most sectors of a request, or cycles of a transaction. `cut`: the launch
    did more accesses than were recorded.
    """

    kernel: str
    places: tuple[str, ...]
    array: str
    space: str
    kind: str
    bytes: int
    requests: int
    lanes: int
    moved: int
    least: int
    worst: int
    cut: bool = False

    @property
    def each(self) -> float:
        """Sectors per request, or ways of a bank conflict: 1 is none."""
        return self.moved / (self.requests if self.space == "global" else self.least)

    @property
    def best(self) -> float:
        """What `each` would be at best."""
        return self.least / self.requests if self.space == "global" else 1.0

    @property
    def wasted(self) -> int:
        """Sectors, or turns, above the least."""
        return self.moved - self.least

    @property
    def line(self) -> str:
        """Where it stands, as "gemm_tile.cuh:151"."""
        return self.places[0] if self.places else "?"

    def __str__(self) -> str:
        unit = "sectors" if self.space == "global" else "ways"
        return (
            f"{self.line} {self.space} {self.kind} {self.array}, {self.bytes} B a lane: "
            f"{self.requests} requests, {self.each:.2f} {unit} each, at best {self.best:.2f}"
        )


def from_json(values: Sequence[dict[str, Any]]) -> list[Access]:
    """Accesses from what `asdict` made of them, and JSON of that."""
    return [Access(**{**value, "places": tuple(value["places"])}) for value in values]


class _Extent(ctypes.Structure):
    _fields_ = (("begin", ctypes.c_uint64), ("end", ctypes.c_uint64))


class _Traced(ctypes.Structure):
    _fields_ = (
        ("frames", ctypes.c_uint64 * _MOST_FRAMES),
        ("array", ctypes.c_char * 48),
        ("argument", ctypes.c_int32),
        ("kind", ctypes.c_int32),
        ("bytes", ctypes.c_int32),
        ("cut", ctypes.c_int32),
        ("requests", ctypes.c_uint64),
        ("lanes", ctypes.c_uint64),
        ("sectors", ctypes.c_uint64),
        ("least", ctypes.c_uint64),
        ("wavefronts", ctypes.c_uint64),
        ("parts", ctypes.c_uint64),
        ("worst", ctypes.c_uint64),
    )


def watch(runtime: ctypes.CDLL, arrays: Sequence[tuple[int, int]]) -> None:
    """Tell the runtime where the arrays of the next launch lie: (address, bytes) of each."""
    extents = (_Extent * max(len(arrays), 1))(*(_Extent(a, a + size) for a, size in arrays))
    runtime.gpukit_trace_arrays(extents, len(arrays))


def collect(runtime: ctypes.CDLL, library: Path, kernel: str, names: Sequence[str]) -> list[Access]:
    """What was traced since the last call; `names` are those of the arrays given to `watch`."""
    take = runtime.gpukit_trace_take
    take.restype, take.argtypes = ctypes.c_size_t, [ctypes.c_void_p, ctypes.c_size_t]
    count = take(None, 0)
    records = (_Traced * max(count, 1))()
    take(records, count)
    taken = list(records)[:count]
    frames = [[f for f in r.frames if f] for r in taken]
    lines = _lines(library, sorted({f for chain in frames for f in chain}))
    cut = any(record.cut for record in taken)
    merged: dict[tuple[tuple[str, ...], str, str, str, int], list[int]] = {}
    for record, chain in zip(taken, frames):
        places = tuple(place for frame in chain for place in lines[frame])
        shared = record.argument < 0
        array = record.array.decode() if shared else names[record.argument]
        space = "shared" if shared else "global"
        kind = KINDS[record.kind]
        if shared and record.kind == 4:
            kind = "store"  # how an asynchronous copy arrives
        key = (places, array, space, kind, record.bytes)
        moved = record.wavefronts if shared else record.sectors
        least = record.parts if shared else record.least
        sums = merged.setdefault(key, [0, 0, 0, 0, 0])
        for i, n in enumerate((record.requests, record.lanes, moved, least)):
            sums[i] += n
        sums[4] = max(sums[4], record.worst)
    return [
        Access(kernel, places, array, space, kind, size, n, lanes, moved, least, worst, cut)
        for (places, array, space, kind, size), (n, lanes, moved, least, worst) in merged.items()
    ]


def _lines(library: Path, addresses: Sequence[int]) -> dict[int, list[str]]:
    """For each address in `library` the kernel's lines there: innermost first, then its callers."""
    if not addresses:
        return {}
    name = [compiler(), "-print-prog-name=addr2line"]
    tool = subprocess.run(name, capture_output=True, text=True).stdout.strip() or "addr2line"
    done = subprocess.run(
        [tool, "-a", "-i", "-e", str(library)],
        input="\n".join(f"{a:#x}" for a in addresses),
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[int, list[str]] = {}
    for row in done.stdout.splitlines():
        if row.startswith("0x"):
            chain = found.setdefault(int(row, 16), [])
            continue
        path, _, line = row.partition(" (")[0].rpartition(":")
        # The emulator's own headers, and the line that calls the kernel, are not the kernel's.
        if path.startswith((HERE, "?")) or not path.endswith((".cu", ".cuh")):
            continue
        chain.append(f"{Path(path).name}:{line}")
    return found
