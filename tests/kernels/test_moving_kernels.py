"""How copies are laid out for kernels/shape.cu and shape.cu: axes, units, tiles, order of sums."""

from __future__ import annotations

import numpy as np
import pytest
from backend.cases import values

from gpukit import primitives as p
from gpukit.backends.cuda.runtime import strides
from gpukit.backends.cuda.runtime.strides import Axis
from gpukit.backends.cuda.shape import index
from gpukit.device import get_device, to_host
from gpukit.emulator import compiler_problem

needs_compiler = pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())


def packed(*shape: int, kind=np.float32) -> np.ndarray:
    return np.zeros(shape, kind)


@pytest.mark.parametrize(
    ("x", "y", "axes"),
    [
        (packed(2, 3, 4), packed(2, 3, 4), [(24, 1, 1)]),
        (packed(2, 3, 4)[:, 1:], packed(2, 2, 4), [(2, 12, 8), (8, 1, 1)]),
        (packed(4, 3, 2).T, packed(2, 3, 4), [(2, 1, 12), (3, 2, 4), (4, 6, 1)]),
        (packed(2, 3, 4).transpose(2, 0, 1), packed(4, 2, 3), [(4, 1, 6), (6, 4, 1)]),
        (packed(6)[::-2], packed(3), [(3, -2, 1)]),
        (np.broadcast_to(packed(4), (2, 3, 4)), packed(2, 3, 4), [(6, 0, 4), (4, 1, 1)]),
        (packed(1, 1), packed(1, 1), [(1, 1, 1)]),
    ],
    ids=["whole", "cut", "turned", "rolled", "backwards", "repeated", "one"],
)
def test_axes_that_run_on_in_both_are_one(x, y, axes):
    assert strides.merged(x, y) == [Axis(*axis) for axis in axes]


@pytest.mark.parametrize(
    ("axes", "number"),
    [
        ([(40, 1, 50), (50, 40, 1)], 0),
        ([(3, 2000, 2000), (40, 1, 50), (50, 40, 1)], 1),
        ([(15, 1, 50), (50, 15, 1)], None),  # short rows: neighbouring reads share their sectors
        ([(50, 40, 40), (40, 1, 1)], None),  # the same last axis on both sides
        ([(50, 0, 40), (40, 0, 1)], None),  # one number repeated
        ([(40, 3, 50), (50, 120, 1)], None),  # x has gaps: no neighbours to read
    ],
)
def test_tiles_where_the_last_axes_differ(axes, number):
    assert strides._turned([Axis(*axis) for axis in axes]) == number


@pytest.mark.parametrize(
    ("kind", "last", "start", "together"),
    [
        (np.uint8, 16, 0, 8),
        (np.uint8, 12, 0, 4),
        (np.uint8, 16, 2, 2),
        (np.uint8, 15, 0, 1),
        (np.float32, 6, 0, 2),
        (np.float32, 6, 1, 1),  # begins in the middle of 8 bytes
        (np.float32, 7, 0, 1),
        (np.float64, 8, 0, 1),
    ],
)
def test_elements_that_move_together(kind, last, start, together):
    x, y = (get_device("emu").empty((64,), kind) for _ in range(2))
    axes = [Axis(3, 16, 16), Axis(last, 1, 1)]
    assert strides._unit(x, y, start, 0, axes) == together
    assert strides._unit(x, y, 0, start, axes) == together
    assert strides._unit(x, y, 0, 0, [Axis(3, 17, 16), Axis(last, 1, 1)]) == 1
    if start == 0 and together > 1:  # a view that begins one element on has another address
        assert strides._unit(x[1:], y, 0, 0, axes) == 1


def test_memory_of_a_view():
    x = np.arange(24, dtype=np.int32).reshape(4, 6)
    for view in (x, x[1:, ::2], x[::-1], x.T[::-2, 1:], x[2, 3:4], np.broadcast_to(x[0], (3, 6))):
        memory, first = strides.memory_of(view)
        assert memory.ndim == 1
        assert memory.flags.c_contiguous
        assert memory[first] == view[(0,) * view.ndim]
        assert (memory[0], memory[-1]) == (view.min(), view.max())


@needs_compiler
def test_more_axes_than_a_kernel_takes():
    x = values((2, 1, 3, 2, 2, 3, 2, 2), 1, np.float32)
    axes = (7, 0, 5, 2, 6, 4, 3, 1)
    y = p.transpose(get_device("emu").asarray(x), axes=axes)
    assert len(strides.merged(np.transpose(x, axes), np.zeros(y.shape, x.dtype))) > strides.AXES
    np.testing.assert_array_equal(to_host(y), np.transpose(x, axes))


def test_what_needs_no_copy_is_a_view():
    x = get_device("emu").asarray(values((4, 6), 1, np.float32))
    for result in (
        p.reshape(x, shape=(3, -1)),
        p.index(x, key=slice(1, 3)),
        p.transpose(x, axes=(0, 1)),
        *p.split(x, sections=(1, 3), axis=0),
    ):
        assert np.shares_memory(to_host(result), to_host(x))
    assert not np.shares_memory(to_host(p.transpose(x, axes=(1, 0))), to_host(x))


@pytest.mark.parametrize(
    ("key", "slices", "axes", "table", "shape"),
    [
        (([2, 0],), (slice(None), ...), (0, 1, 2), [2, 0], (2, 4, 5)),
        ((..., [1, 1]), (slice(None),) * 3 + (...,), (0, 1, 2), [1, 1], (3, 4, 2)),
        (([2, 0], [1, -1]), (slice(None),) * 2 + (...,), (0, 1, 2), [9, 3], (2, 5)),
        # Picks that are no neighbours come first, as in NumPy.
        ((0, slice(1, 3), [4, 3]), None, (0, 2, 1), [4, 3], (2, 2)),
        ((None, [[1], [0]]), None, (0, 1, 2, 3), [1, 0], (1, 2, 1, 4, 5)),
    ],
)
def test_keys_are_laid_out_as_numpy_does(key, slices, axes, table, shape):
    x = np.arange(60).reshape(3, 4, 5)
    steps = index.parsed(key, x.ndim)
    if slices:
        assert steps.slices == slices
    view = x[steps.slices]
    where = index.laid_out(steps, view.shape)
    assert where.axes == axes
    assert where.table.tolist() == table
    assert where.shape == shape == x[key].shape
    rows = np.transpose(view, where.axes).reshape(where.outer, where.rows, where.inner)
    np.testing.assert_array_equal(rows[:, where.table].reshape(shape), x[key])


@needs_compiler
@pytest.mark.parametrize("seed", ["0", "3", "11"])
def test_sums_of_picks_have_the_definitions_order(monkeypatch, seed):
    """To the bit, in whatever order blocks and threads run."""
    monkeypatch.setenv("GPUKIT_EMU_SEED", seed)
    picks = np.random.default_rng(1).integers(0, 9, 400).tolist()
    gy = values((400, 5), 2, np.float32)
    settings = {"key": (picks,), "input_shape": (12, 5)}
    ours = to_host(p.index_grad(get_device("emu").asarray(gy), **settings))
    assert ours.tobytes() == p.index_grad.reference(gy, **settings).tobytes()


VIEWS = {
    "backwards": lambda x: x[::-2, 1:, ::3],
    "turned": lambda x: x.T,
    "repeated": lambda x: np.broadcast_to(x[:1], x.shape),
    "column": lambda x: x[:, :, 4:5],
    "mixed": lambda x: x.transpose(1, 2, 0)[:, ::-1],
}


@needs_compiler
@pytest.mark.parametrize("kind", [np.float32, np.uint8, np.int64])
@pytest.mark.parametrize("view", VIEWS)
def test_views_are_read_where_they_lie(view, kind):
    """The kernels see the strides of emu's arrays; nothing makes these contiguous before."""
    emu = get_device("emu")
    x = VIEWS[view]((values((6, 40, 33), 1, np.float64) * 50).astype(kind))
    assert not x.flags.c_contiguous
    here, before = emu.wrap(x), x.copy()
    n, h, w = x.shape
    same = np.testing.assert_array_equal
    same(to_host(p.transpose(here, axes=(2, 0, 1))), x.transpose(2, 0, 1))
    same(to_host(p.transpose(here, axes=(1, 2, 0))), x.transpose(1, 2, 0))
    same(to_host(p.reshape(here, shape=(-1,))), x.reshape(-1))
    same(to_host(p.concat([here, here], axis=2)), np.concatenate([x, x], axis=2))
    same(to_host(p.broadcast_to(here, shape=(2, n, h, w))), np.stack([x, x]))
    same(to_host(p.split(here, sections=(1, h - 1), axis=1)[1]), x[:, 1:])
    same(to_host(p.pad(here, widths=((1, 0), (0, 2), (1, 1)), value=3))[1:, :-2, 1:-1], x)
    same(to_host(p.index(here, key=(slice(None, None, -1), [0, -1]))), x[::-1, [0, -1]])
    same(x, before)
