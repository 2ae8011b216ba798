"""Whether there is memory for a race, before any of it is taken.

The estimate, in multiples of the bytes that a call reads and writes: its arguments twice, on the
device and to fill it again; the definition's arguments and results in float64; what the definition
and the entrant compute in between. Measured, most primitives take four to eight times as much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from gpukit.device import Device
from gpukit.dispatch.declaration import Problem
from gpukit.errors import SettingError
from gpukit.race.problems import form_of
from gpukit.race.proof import images_at_once

_ITSELF = 1 << 29  # bytes: the arrays of the ceilings' copy
_PROOF = 8  # times the bytes of a call: the race itself
_RESPONSE = 12  # where the definition is that of a response normalisation, alone or fused
_CARD, _RIVAL = 3, 4  # on the card, and each rival: arguments in both layouts, results
_RIVAL_ITSELF = 600 << 20  # bytes: the process with PyTorch
_COLUMN = 16  # bytes for each place in a window: the definition's columns in float64, twice


def check(problems: Sequence[Problem], device: Device, rivals: int = 0) -> None:
    """Raise SettingError, with figures, where a problem needs more memory than is free."""
    _refuse(problems, [_on_host(p, device, rivals) for p in problems], available(), "memory")
    if not device.in_host_memory:
        needs = [(_CARD + _RIVAL * rivals) * _moved(p) for p in problems]
        _refuse(problems, needs, _free_on(device), f"memory on {device}")


def available(file: Path = Path("/proc/meminfo")) -> int | None:
    """Bytes that Linux can give without swapping; None elsewhere."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) << 10 if found else None


def _free_on(device: Device) -> int:
    import cupy

    with cupy.cuda.Device(device.index):
        return int(cupy.cuda.runtime.memGetInfo()[0])


def _on_host(problem: Problem, device: Device, rivals: int) -> int:
    times = _RESPONSE if "lrn" in problem.primitive else _PROOF
    need = _ITSELF + times * _moved(problem)
    if form_of(problem.primitive).name == "conv":
        images, *_, k, _, _, _, _, groups = problem.sizes
        columns = problem.flop // (2 * k) * groups
        need += _COLUMN * columns * min(images_at_once(problem), images) // images
    if device.in_host_memory:
        need += rivals * (_RIVAL * _moved(problem) + _RIVAL_ITSELF)
    return need


def _moved(problem: Problem) -> int:
    """Bytes of arguments and results; of images also the pixels that no window sees."""
    if form_of(problem.primitive).name in ("conv", "pool"):
        return max(problem.bytes, 4 * math.prod(problem.sizes[:4]))
    return problem.bytes


def _refuse(problems: Sequence[Problem], needs: list[int], free: int | None, what: str) -> None:
    need = max(needs)
    if free is None or need <= free:
        return
    problem = problems[needs.index(need)]
    batched = problem.network and form_of(problem.primitive).batched
    raise SettingError(
        f"{problem.primitive} on {problem.layer} needs about {need / 1e9:.3g} GB of {what} to be "
        f"proven and timed, and {free / 1e9:.3g} GB are free; use "
        f"{'a smaller --batch' if batched else 'smaller sizes in --layers'}"
    )
