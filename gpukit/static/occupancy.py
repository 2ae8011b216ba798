"""How much of a multiprocessor (SM) a kernel's blocks can fill at one time.

Limits are those of the CUDA C++ Programming Guide, "Technical Specifications per Compute
Capability"; how registers and shared memory are handed out is NVIDIA's cuda_occupancy.h, to which
a test holds this file.
"""

from __future__ import annotations

from dataclasses import dataclass

WARP = 32
REGISTERS = 65536  # of an SM
REGISTERS_AT_ONCE = 256  # are given to a warp
PARTITIONS = 4  # of an SM; each has a quarter of the registers


@dataclass(frozen=True)
class Limits:
    """Of one SM: resident warps and blocks; bytes of shared memory.

    Each block takes `reserved` bytes beside its own, in units of `unit` bytes.
    """

    warps: int
    blocks: int
    shared: int
    reserved: int = 1024
    unit: int = 128


LIMITS = {
    75: Limits(32, 16, 64 << 10, reserved=0, unit=256),
    80: Limits(64, 32, 164 << 10),
    86: Limits(48, 16, 100 << 10),
    89: Limits(48, 24, 100 << 10),
    90: Limits(64, 32, 228 << 10),
    100: Limits(64, 32, 228 << 10),
    120: Limits(48, 24, 100 << 10),
}


@dataclass(frozen=True)
class Occupancy:
    """Resident blocks and warps of an SM, of `most` warps, and what keeps others out."""

    blocks: int
    warps: int
    most: int
    limited_by: tuple[str, ...]

    @property
    def percent(self) -> float:
        return 100 * self.warps / self.most


def occupancy(arch: int, threads: int, registers: int, shared: int) -> Occupancy:
    """Of blocks of `threads` threads with `registers` each and `shared` bytes a block.

    `shared` is static and dynamic together. No blocks fit where one of them asks for too much.
    """
    limits = LIMITS[arch]
    warps = -(-threads // WARP)
    room = {
        "threads": limits.warps // warps,
        "blocks": limits.blocks,
        "registers": _by_registers(warps, registers),
        "shared memory": _by_shared(limits, shared),
    }
    blocks = min(room.values())
    limited_by = tuple(what for what, most in room.items() if most == blocks)
    return Occupancy(blocks, blocks * warps, limits.warps, limited_by)


def _by_registers(warps: int, registers: int) -> int:
    if registers == 0:
        return REGISTERS
    of_warp = _up(registers * WARP, REGISTERS_AT_ONCE)
    if of_warp * _up(warps, PARTITIONS) > REGISTERS:
        return 0
    return REGISTERS // PARTITIONS // of_warp * PARTITIONS // warps


def _by_shared(limits: Limits, shared: int) -> int:
    taken = _up(shared + limits.reserved, limits.unit)
    return limits.shared // taken if taken else limits.shared


def _up(number: int, step: int) -> int:
    return -(-number // step) * step
