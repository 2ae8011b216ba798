"""Chooses a product's tile and its ranges of k, by counting how evenly blocks fill a card.

From the shape, the dtype and the alignment alone, for the multiprocessors of one large card (H100,
H200): the same choice, and so the same bits, on every card.

A launch of `blocks` equal blocks, `resident` of which share a multiprocessor, runs in waves:

    resident × 132    ██████████████████████  ██████████████████████  ███████
                      first wave              second                  what is left

A multiprocessor has 128 multiply-adds a cycle; with w warps for each of its four schedulers it is
taken to reach w / (w + 1) of them, since one warp alone waits for its own results. What is left is
spread over all multiprocessors, with fewer warps on each: it takes less time than a wave, but more
than its share. Ranges of k (`parts`) turn few blocks into whole waves; each costs its partial sums,
written and read again, and all of them together one more launch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from gpukit.backends.cuda.runtime.common import divide_up

MULTIPROCESSORS = 132
MOST_DEEP = 65535  # blocks along z
PARTS_BYTES = 64 << 20  # of partial sums together, unless one alone is larger
SHORTEST, LONGEST = 256, 16384  # range of k a block: worth a launch; what float32 adds up well
K_STEP = 16  # ranges begin at whole steps of every tile

# In multiply-adds of a multiprocessor, at 128 a cycle and 1.98 GHz; 4.8 TB/s for all of them.
_NUMBER = 28 / MULTIPROCESSORS  # that one float32 to or from memory takes as long as
_LAUNCH = 750_000  # 3 µs
_START = 32  # steps of k that a wave's first loads and last stores take as long as
_DOUBT = 1.1  # ranges must promise a tenth: they take memory, and all this is counted, not timed


class Tile(NamedTuple):
    """Rows and columns of a block's result."""

    m: int
    n: int


LARGE, TALL, THIN = Tile(128, 128), Tile(128, 64), Tile(128, 48)  # 8×8 sums a thread
SQUARE, SLIM = Tile(64, 64), Tile(128, 16)  # 4×4
EIGHTS = (LARGE, TALL, THIN)  # for float32 in packs of 16 bytes
TILES = (*EIGHTS, SQUARE, SLIM)
THREADS = {tile: tile.m * tile.n // (64 if tile in EIGHTS else 16) for tile in TILES}

# Tiles that kernels are built for, and how many blocks of float32 in packs share a multiprocessor:
# BLOCKS in kernels/gemm_tile.cuh, COPIED_BLOCKS in kernels/conv/implicit.cuh.
Built = tuple[tuple[Tile, int], ...]
BUILT: Built = ((LARGE, 2), (TALL, 4), (THIN, 4), (SQUARE, 3), (SLIM, 2))
COPIED: Built = ((LARGE, 2), (TALL, 3), (THIN, 4), (SQUARE, 3), (SLIM, 2))
_OTHERS = 2  # blocks of other dtypes, or not in packs

# What a multiply-add takes, beside the large tile's. 4×4 sums read two 16-byte words of shared
# memory for 16 of them, where 8×8 read four for 64; narrow tiles bring more numbers for each.
_WEIGHT = {LARGE: 1.0, TALL: 1.05, THIN: 1.1, SQUARE: 1.5, SLIM: 1.75}


def tiles(m: int, n: int, tile: Tile) -> int:
    """Blocks for one result (m, n)."""
    return divide_up(m, tile.m) * divide_up(n, tile.n)


def time_of(blocks: int, together: int, threads: int) -> float:
    """What a launch takes, in times that a multiprocessor at its full rate takes for a block."""
    whole, left = divmod(blocks, together * MULTIPROCESSORS)
    last = divide_up(left, MULTIPROCESSORS)
    return whole * _at_once(together, threads) + _at_once(last, threads)


def _at_once(blocks: int, threads: int) -> float:
    warps = blocks * threads / 32 / 4  # of each scheduler
    return blocks * (warps + 1) / warps if blocks else 0.0


class Splits(NamedTuple):
    """k cut into `parts` ranges of `length`, the last perhaps shorter."""

    parts: int
    length: int


@lru_cache(maxsize=4096)
def split(
    blocks: int,
    k: int,
    part_bytes: int,
    *,
    work: float,
    threads: int,
    together: int,
    step: int = K_STEP,
    most: int = MOST_DEEP,
) -> tuple[Splits, float]:
    """Ranges of k for a launch of `blocks` blocks a range, and what it takes, as counted.

    A block does `work` multiply-adds a k. `together` blocks of `threads` share a multiprocessor.
    Ranges are multiples of `step`, SHORTEST … LONGEST long unless that makes more than
    `most` of them, or more than PARTS_BYTES of partial sums, `part_bytes` each.
    """
    affordable = max(min(most, k // SHORTEST, PARTS_BYTES // max(part_bytes, 1)), 1)
    least = min(divide_up(max(k, 1), LONGEST), affordable)
    # More than four waves leave little at the end to gain.
    enough = divide_up(4 * together * MULTIPROCESSORS, max(blocks, 1))
    best: tuple[float, Splits] | None = None
    for wanted in range(least, max(min(affordable, enough), least) + 1):
        length = max(divide_up(divide_up(k, wanted), step), 1) * step
        parts = max(divide_up(k, length), 1)
        cost = time_of(blocks * parts, together, threads) * work * (length + _START)
        if parts > 1:
            cost = _DOUBT * (cost + _LAUNCH + 2 * parts * part_bytes / 4 * _NUMBER)
        if best is None or cost < best[0]:
            best = cost, Splits(parts, length)
    assert best is not None
    return best[1], best[0]


class Plan(NamedTuple):
    """A tile, ranges of k, and what they take, as counted."""

    tile: Tile
    splits: Splits
    cost: float


@lru_cache(maxsize=4096)
def plan(
    m: int,
    n: int,
    batch: int,
    k: int,
    itemsize: int,
    packed: bool,
    most: int = MOST_DEEP,
    built: Built = BUILT,
) -> Plan:
    """The quickest plan, as counted, for `batch` results (m, n) of sums over k.

    `packed` operands come in packs of 16 bytes; at most `most` ranges of k. Of tiles that are as
    quick, the first in `built`.
    """
    found = []
    usual = packed and itemsize == 4
    for tile, together in built:
        if tile in EIGHTS and not usual:
            continue
        splits, cost = split.__wrapped__(  # one cache is enough
            tiles(m, n, tile) * batch,
            k,
            m * n * batch * itemsize,
            work=tile.m * tile.n * _WEIGHT[tile],
            threads=THREADS[tile],
            together=together if usual else _OTHERS,
            most=most,
        )
        found.append(Plan(tile, splits, cost))
    return min(found, key=lambda one: one.cost)
