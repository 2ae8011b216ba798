"""Arrays of more than 2³¹ elements: the last blocks of grids that nobody could run whole.

Memory is reserved and not filled, so a page counts only once it is written: the arrays of these
tests have up to 17 GB of addresses and some kilobytes of memory. What is proven is the index
arithmetic of the blocks that run, first and last; not that a card has the memory.
"""

from __future__ import annotations

import mmap

import numpy as np
import pytest
from backend.cases import values

from gpukit import primitives as p
from gpukit.backends.cuda.runtime import common
from gpukit.backends.cuda.runtime.common import index_type
from gpukit.device import get_device, to_host
from gpukit.emulator import compiler_problem
from gpukit.emulator.run import some_blocks
from gpukit.launch.kernel import Kernel
from gpukit.primitives import Window

pytestmark = pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())

BEYOND = 2**31 + 1000  # elements; one dtype's offset in bytes is then beyond 2³³
NO_RESERVE = 0x4000  # MAP_NORESERVE of Linux


def reserved(shape, dtype) -> np.ndarray:
    """Zeros that take no memory until they are written."""
    size = int(np.prod(shape, dtype=np.int64))
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE
    try:
        memory = mmap.mmap(-1, size * np.dtype(dtype).itemsize, flags=flags)
    except OSError as error:
        pytest.skip(f"this machine does not give so many addresses: {error}")
    return np.frombuffer(memory, dtype).reshape(shape)


@pytest.fixture
def emu(monkeypatch):
    """The device, whose new arrays are reserved memory where they are large."""
    from gpukit.device import EmulatedDevice, emulated

    small = emulated.unwritten

    def unwritten(shape, dtype):
        large = int(np.prod(tuple(shape), dtype=np.int64)) > 2**24
        return reserved(tuple(shape), dtype) if large else small(shape, dtype)

    def zeros(self, shape, dtype=np.float32):
        return self.wrap(reserved(tuple(shape), dtype))

    monkeypatch.setattr(emulated, "unwritten", unwritten)
    monkeypatch.setattr(EmulatedDevice, "zeros", zeros)
    return get_device("emu")


def test_index_type_is_chosen_by_size():
    assert index_type(0) == index_type(2**31 - 1 - common.MARGIN) == "int"
    assert index_type(2**31 - common.MARGIN) == index_type(2**40) == "long long"


def test_some_blocks_are_those_of_the_grid(emu):
    x = emu.asarray(np.arange(5000, dtype=np.float32))
    ends = Kernel("activation.cu", "unary")
    y = emu.zeros((5000,))
    with some_blocks(-1, 1):
        ends.launch(5, 256, x, y, 5000, 0.0, T=x.dtype, F="Relu")
    np.testing.assert_array_equal(to_host(y)[4096:], np.arange(4096, 5000))
    assert not to_host(y)[:4096].any()
    with some_blocks(1, 2):
        ends.launch(5, 256, x, y, 5000, 0.0, T=x.dtype, F="Relu")
    assert not to_host(y)[:1024].any()
    np.testing.assert_array_equal(to_host(y)[1024:3072], np.arange(1024, 3072))
    assert not to_host(y)[3072:4096].any()


def ends_of(emu, call, *arrays):
    """`call` run in its first and its last two blocks only."""
    here = [emu.wrap(a) for a in arrays]
    with some_blocks(-2, 2):
        y = call(*here)
    return y


ELEMENTWISE = {
    "relu": (p.relu, 1),
    "relu_grad": (p.relu_grad, 2),
    "add": (p.add, 2),
    "square": (p.square, 1),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise(emu, name):
    primitive, count = ELEMENTWISE[name]
    arrays = [reserved((BEYOND,), np.float32) for _ in range(count)]
    for i, x in enumerate(arrays):
        x[-999:] = np.arange(-500, 499) * (i + 1)
    y = to_host(ends_of(emu, primitive, *arrays))
    expected = primitive.reference(*(x[-999:] for x in arrays))
    np.testing.assert_array_equal(y[-999:], expected)


def test_updates(emu):
    rates = {"lr": 0.5, "weight_decay": 0.0}
    for primitive, count, settings in [
        (p.sgd_update, 3, {"momentum": 0.5, "nesterov": False}),
        (p.adam_update, 4, {"beta1": 0.5, "beta2": 0.5, "epsilon": 1e-3, "step": 2}),
        (p.rmsprop_update, 4, {"rho": 0.5, "epsilon": 1e-3, "momentum": 0.5}),
        (p.adagrad_update, 3, {"epsilon": 1e-3}),
    ]:
        arrays = [reserved((BEYOND,), np.float32) for _ in range(count)]
        for i, x in enumerate(arrays):
            x[-999:] = np.arange(1, 1000) + i
        expected = [x[-999:].copy() for x in arrays]
        primitive.reference(*expected, **rates, **settings)
        ends_of(emu, lambda *a, p=primitive, s=settings: p(*a, **rates, **s), *arrays)
        for ours, theirs in zip(arrays, expected):
            np.testing.assert_allclose(ours[-999:], theirs, rtol=1e-6)


def test_rows_beyond(emu):
    """Few of many elements: every launch runs whole, and its offsets are beyond 2³¹."""
    x = reserved((3, 2**30 + 7), np.float32)
    x[:, -3:] = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    here = emu.wrap(x)
    rows = p.index(here, key=(slice(None), slice(-3, None)))
    np.testing.assert_array_equal(to_host(rows), x[:, -3:])
    backwards = p.index(here, key=(slice(None, None, -1), slice(-1, -4, -2)))
    np.testing.assert_array_equal(to_host(backwards), x[::-1, -1:-4:-2])
    with some_blocks(-1, 1):
        columns = p.split(here, sections=(2**30 + 5, 2), axis=1)
    np.testing.assert_array_equal(to_host(columns[1]), x[:, -2:])


def test_picks_beyond(emu):
    x = reserved((2**20 + 1, 2**12), np.float32)
    x[-1], x[-2, :5] = 7, 3
    picked = to_host(p.index(emu.wrap(x), key=([2**20, 0, -2],)))
    np.testing.assert_array_equal(picked, x[[-1, 0, -2]])
    gy = emu.asarray(np.ones((3, 2**12), np.float32))
    gx = p.index_grad(gy, key=([2**20, 0, -1],), input_shape=x.shape)
    np.testing.assert_array_equal(to_host(gx)[[0, -2, -1], :3], [[1] * 3, [0] * 3, [2] * 3])


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_transposed_tiles_beyond(emu, kind):
    """(2¹⁷ + 1, 2¹⁴) turned: the last tiles, whose offsets are beyond 2³¹ on both sides."""
    x = reserved((2**17 + 1, 2**14), kind)
    x[-33:, -64:] = np.arange(33 * 64).reshape(33, 64) % 251
    y = to_host(ends_of(emu, lambda a: p.transpose(a, axes=(1, 0)), x))
    # Tiles go along x's rows first: the last two are the last row's, 2 × 32 columns of x.
    np.testing.assert_array_equal(y[-64:, -1], x[-1, -64:])


def test_concat_and_pad_beyond(emu):
    x = reserved((2, 2**30 + 16), np.float32)
    x[1, -100:] = np.arange(100)
    y = to_host(ends_of(emu, lambda a: p.concat([a], axis=1), x))
    np.testing.assert_array_equal(y[1, -100:], np.arange(100))
    padded = ends_of(emu, lambda a: p.pad(a, widths=((0, 0), (3, 1)), value=5.0), x)
    np.testing.assert_array_equal(to_host(padded)[1, -101:], [*range(100), 5])
    wide = reserved((3, 1), np.float32)
    wide[2] = 4
    spread = ends_of(emu, lambda a: p.broadcast_to(a, shape=(3, 2**30)), wide)
    np.testing.assert_array_equal(to_host(spread)[2, -256:], np.full(256, 4))


def test_broadcasting_beyond(emu):
    x, y = reserved((2, 2**30), np.float32), reserved((2, 1), np.float32)
    x[1, -256:], y[1] = np.arange(256), 3
    z = ends_of(emu, p.subtract, x, y)
    np.testing.assert_array_equal(to_host(z)[1, -256:], np.arange(256) - 3)


def test_reductions_beyond(emu):
    """The last 64 columns of (5, 2²⁹); their offsets are beyond 2³¹ from the fifth row on."""
    x = reserved((5, 2**29), np.float32)
    x[:, -64:] = np.arange(5 * 64).reshape(5, 64)
    total = ends_of(emu, lambda a: p.reduce_sum(a, axis=0, keepdims=False), x)
    np.testing.assert_array_equal(to_host(total)[-64:], x[:, -64:].sum(axis=0))
    best = ends_of(emu, lambda a: p.argmax(a, axis=0), x)
    assert to_host(best)[-64:].tolist() == [4] * 64


def test_rows_of_classes_beyond(emu):
    x = reserved((2**21 + 5, 1024), np.float32)
    x[-3:] = values((3, 1024), 1, np.float32)
    y = to_host(ends_of(emu, p.softmax, x))
    np.testing.assert_allclose(y[-3:], p.softmax.reference(x[-3:]), rtol=1e-5)
    gx = to_host(ends_of(emu, p.softmax_grad, x, y))
    expected = p.softmax_grad.reference(x[-3:], y[-3:])
    np.testing.assert_allclose(gx[-3:], expected, rtol=1e-4, atol=1e-7)
    loss = reserved((len(x),), np.float32)
    loss[-3:] = [1, 2, 3]
    gx = to_host(ends_of(emu, p.squared_error_grad, loss, x, reserved(x.shape, np.float32)))
    expected = p.squared_error_grad.reference(loss[-1:], x[-1:, -256:], np.float32([[0]]))
    np.testing.assert_allclose(gx[-1:, -256:], expected / 4, rtol=1e-6)


def test_pooling_beyond(emu):
    """Three images of 2³⁰ elements: a launch each, of which the last blocks are run."""
    x = reserved((3, 2**14, 2**15, 2), np.float32)
    x[:, -2:, -400:] = values((3, 2, 400, 2), 1, np.float32)
    window = {"window": Window((2, 2), stride=(2, 2))}
    here = emu.wrap(x)
    with some_blocks(-2, 2):
        y, index = p.max_pool2d(here, **window)
        mean = p.avg_pool2d(here, **window)
        back = p.max_pool2d_grad(y, index, input_shape=x.shape, **window)
        even = p.avg_pool2d_grad(mean, input_shape=x.shape, **window)
    end = x[:, -2:, -400:]
    largest, winner = p.max_pool2d.reference(end, **window)
    np.testing.assert_array_equal(to_host(y)[:, -1, -200:], largest[:, 0])
    np.testing.assert_array_equal(to_host(index)[:, -1, -200:], winner[:, 0])
    average = p.avg_pool2d.reference(end, **window)
    np.testing.assert_allclose(to_host(mean)[:, -1, -200:], average[:, 0], rtol=1e-5)
    back, even = (to_host(a)[:, -1:, -200:] for a in (back, even))
    settings = {"input_shape": end.shape, **window}
    expected = p.max_pool2d_grad.reference(largest, winner, **settings)
    np.testing.assert_array_equal(back, expected[:, -1:, -200:])
    expected = p.avg_pool2d_grad.reference(average, **settings)
    np.testing.assert_allclose(even, expected[:, -1:, -200:], rtol=1e-5)


def test_batch_norm_beyond(emu):
    x = reserved((2**26 + 3, 33), np.float32)
    x[-3:] = np.arange(99).reshape(3, 33)
    ones = emu.asarray(np.ones(33, np.float32))
    y = ends_of(emu, lambda a: p.batch_norm_inference(a, ones, ones, ones, ones, epsilon=0.0), x)
    np.testing.assert_array_equal(to_host(y)[-3:], x[-3:])


def test_whole_array_is_looked_at(emu):
    """The second launch of all_finite has one block; of the first, the last two are run."""
    x = reserved((BEYOND,), np.float32)
    x[-1] = np.inf
    large = Kernel("reduction.cu", "finite_parts")
    blocks = -(-BEYOND // 1024)  # as many as leave each thread one pack
    flags = emu.zeros((blocks,), np.bool_)
    with some_blocks(-2, 2):
        large.launch(blocks, 256, emu.wrap(x), flags, BEYOND, T=x.dtype)
    assert to_host(flags)[-2:].tolist() == [True, False]
