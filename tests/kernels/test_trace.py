"""The emulator's trace of memory accesses, held to cases that are counted by hand.

A sector has 32 bytes, a warp 32 lanes; shared memory has 32 banks of 4 bytes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gpukit.emulator import compiler_problem, run
from gpukit.emulator.check import check
from gpukit.emulator.trace import Access
from gpukit.launch.kernel import Kernel

pytestmark = pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())

FILE = Path(__file__).with_name("accesses.cu")
TEXT = FILE.read_text(encoding="utf-8").splitlines()


def line_of(text: str) -> str:
    """Where the only line with `text` stands; a newline stands for its end."""
    (number,) = [i for i, line in enumerate(TEXT, 1) if text in f"{line}\n"]
    return f"accesses.cu:{number}"


def traced(name: str, *arguments, grid=1, block=32, **template) -> list[Access]:
    found = check(Kernel(FILE, name), grid, block, arguments, mode="trace", **template)
    assert found.ok, found.text
    assert not any(access.cut for access in found.accesses)
    return found.accesses


def one(accesses: list[Access], **wanted) -> Access:
    (found,) = [a for a in accesses if all(getattr(a, k) == v for k, v in wanted.items())]
    return found


def numbers(access: Access) -> tuple[int, float, float, int]:
    return access.requests, access.each, access.best, access.worst


@pytest.mark.parametrize(
    ("dtype", "first", "step", "sectors", "least"),
    [
        (np.float32, 0, 1, 4, 4),  # 128 bytes in a row
        (np.float32, 1, 1, 5, 4),  # the same, one element further
        (np.float32, 8, 1, 4, 4),  # a whole sector further
        (np.float32, 0, 2, 8, 4),  # every other element of 256 bytes
        (np.float32, 0, 32, 32, 4),  # a sector for each lane
        (np.float32, 5, 0, 1, 1),  # all lanes read one element
        (np.float64, 0, 1, 8, 8),
        (np.float64, 1, 1, 9, 8),
        (np.float64, 0, 4, 32, 8),
    ],
)
def test_sectors_of_a_row(dtype, first, step, sectors, least):
    x, y = np.zeros(1100, dtype), np.zeros(32, dtype)
    found = traced("global_row", x, y, first, step, T=x.dtype)
    load = one(found, kind="load")
    assert numbers(load) == (1, sectors, least, sectors)
    assert (load.line, load.array, load.space) == (line_of("const T v = x["), "x", "global")
    assert (load.bytes, load.lanes) == (x.itemsize, 32)
    store = one(found, kind="store")
    assert numbers(store) == (1, x.itemsize, x.itemsize, x.itemsize)
    assert (store.line, store.array) == (line_of("y[threadIdx.x] = v"), "y")
    assert len(found) == 2


def test_packs_are_one_request():
    x, y = np.zeros(128, np.float32), np.zeros(128, np.float32)
    found = traced("global_packs", x, y)
    assert [(a.bytes, *numbers(a)) for a in found] == [(16, 1, 16, 16, 16)] * 4
    assert {a.line for a in found if "pack.cuh" not in a.line} == {
        line_of("const float4 v"), line_of("make_float4(v.x + 1")
    }  # fmt: skip
    (through,) = (a for a in found if a.places[1:] == (line_of("= load(x"),))
    assert through.line.startswith("pack.cuh:")


@pytest.mark.parametrize(
    ("dtype", "step", "ways"),
    [
        (np.float32, 1, 1),
        (np.float32, 2, 2),
        (np.float32, 3, 1),  # odd: every bank once
        (np.float32, 8, 8),
        (np.float32, 32, 32),
        (np.float32, 33, 1),
        (np.float32, 0, 1),  # broadcast
        (np.float64, 1, 1),  # half a warp at a time, 16 · 8 bytes
        (np.float64, 2, 2),
        (np.float64, 3, 1),
        (np.float64, 16, 16),
        (np.float64, 0, 1),
    ],
)
def test_ways_of_a_shared_row(dtype, step, ways):
    y = np.zeros(32, dtype)
    found = traced("shared_row", y, step, T=y.dtype)
    for kind in ("store", "load"):
        access = one(found, kind=kind, space="shared")
        assert numbers(access) == (1, ways, 1, ways)
        assert access.array == "row"
        assert access.least == y.itemsize // 4  # parts


def test_columns_of_tiles():
    found = traced("shared_tiles", np.zeros(32, np.float32))
    shared = {(a.array, a.kind): a.each for a in found if a.space == "shared"}
    assert shared[("tile", "store")] == 32  # a column of 32 × 32
    assert shared[("padded", "store")] == shared[("padded", "load")] == 1
    assert shared[("tile", "load")] == 1  # one word for all
    assert shared[("packs", "store")] == 1  # a quarter of a warp at a time
    assert one(found, array="packs", kind="store").bytes == 16
    assert one(found, array="packs", kind="store").least == 4


def test_warps_and_blocks_add_up():
    x, y = np.zeros(200, np.float32), np.zeros(200, np.float32)
    load = one(traced("global_row", x, y, 0, 1, block=80, T=x.dtype), kind="load")
    # Two whole warps, and one of 16 lanes.
    assert (load.requests, load.lanes, load.moved, load.worst) == (3, 80, 10, 4)
    load = one(traced("global_row", x, y, 0, 1, grid=3, T=x.dtype), kind="load")
    assert (load.requests, load.lanes, load.moved) == (3, 96, 12)


def test_lanes_that_take_turns():
    x, y = np.zeros(128, np.float32), np.zeros(32, np.float32)
    found = traced("divergent", x, y, 4)
    load = one(found, kind="load")
    # Four requests of 16 lanes, every other element of 128 bytes: all 4 sectors, 2 would do.
    assert (load.requests, load.lanes, load.each, load.best) == (4, 64, 4, 2)
    assert numbers(one(found, kind="store")) == (1, 4, 4, 4)


def test_lanes_that_leave_a_loop_wait_for_the_others():
    x, y = np.zeros(128, np.float32), np.zeros(32, np.float32)
    found = traced("ragged", x, y)
    load = one(found, kind="load")
    assert (load.requests, load.lanes) == (3, 24 + 16 + 8)
    assert numbers(one(found, kind="store")) == (1, 4, 4, 4)


@pytest.mark.parametrize("seed", range(6))
def test_lanes_on_ways_of_their_own_meet_again(seed):
    """Held to a warp that runs `walk` under a mask, as cards do."""
    rounds, lane = 7, np.arange(32)
    numbers = np.random.default_rng(seed)
    plan = numbers.choice(4, (rounds, 32), p=[0.2, 0.3, 0.4, 0.1]).astype(np.int32)
    wanted: dict[str, list[int]] = {"in a loop": [], "aside": [], "way out": [], "again": []}
    inside = np.ones(32, bool)
    for what in plan:
        for k in range(2):
            wanted["in a loop"].append(np.sum(inside & (what == 1) & (lane % 3 > k)))
        wanted["aside"].append(np.sum(inside & (what == 2)))
        wanted["way out"].append(np.sum(inside & (what == 3)))
        left = inside & (what == 3) & (lane % 2 == 1)
        wanted["again"].append(np.sum(inside & (what != 0) & ~left))
        inside &= ~left
    x, y = np.zeros(96, np.float32), np.zeros(32, np.float32)
    found = {access.line: access for access in traced("walk", plan, x, y, rounds)}
    for text, lanes in wanted.items():
        asked = [int(n) for n in lanes if n]
        access = found[line_of(f"{text}\n")]
        assert (access.requests, access.lanes) == (len(asked), sum(asked)), text
    assert found[line_of("    y[lane] = sum;")].requests == 1


def test_some_blocks_of_the_middle(monkeypatch):
    monkeypatch.setattr(run, "_some", None)
    with run.some_blocks(None, 4):
        assert run._chosen(100) == (48, 4)
        assert run._chosen(3) == (0, 3)
    assert run._chosen(100) == (0, 100)


def test_atomic_operations_take_turns():
    found = traced("adds", np.zeros(32, np.float32))
    assert numbers(one(found, array="y", kind="atomic")) == (1, 4, 4, 4)
    assert numbers(one(found, array="count", kind="atomic")) == (1, 32, 1, 32)


def test_asynchronous_copies_ask_twice():
    x, y = np.zeros(128, np.float32), np.zeros(32, np.float32)
    found = traced("copies", x, y)
    line = line_of("ptx::copy_async<16>(&stage")
    asked = one(found, kind="async copy")
    assert (asked.places[-1], asked.array, asked.lanes, *numbers(asked)) == (
        line, "x", 16, 1, 8, 8, 8
    )  # fmt: skip
    landed = one(found, array="stage", kind="store")
    assert (landed.places[-1], landed.bytes, landed.lanes, landed.each) == (line, 16, 32, 1)


def test_a_fault_is_still_found():
    report = check(
        Kernel(FILE, "global_row"), 1, 32,
        [np.zeros(32, np.float32), np.zeros(16, np.float32), 0, 1], mode="trace", T=np.float32,
    )  # fmt: skip
    assert report.finding == "fault"
    assert "behind the end of its argument y" in report.text
